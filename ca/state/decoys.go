package state

// CredentialLength is the commonest length of the enrolled keys' credential ids, in bytes; 0 if no key is enrolled. Made-up keys get that
// length, for vendors' differ.
func (t *Tx) CredentialLength() (n int, err error) {
	err = notFound(t.tx.QueryRow(`SELECT length(credential) FROM keys GROUP BY length(credential) ORDER BY COUNT(*) DESC, 1 LIMIT 1`).Scan(&n))
	if err == ErrNotFound {
		return 0, nil
	}
	return n, err
}
