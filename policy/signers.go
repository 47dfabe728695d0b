package policy

// DefaultSigners is how many owners sign the next policy where a production site's policy doesn't say, and has as many.
const DefaultSigners = 2

// signers says how many owners have to sign the policy that follows this one. Fewer than two must be written: it is one person's word then on who gets
// in anywhere, and it shows.
func (c *compiler) signers(f *file) int {
	path := []string{"site", "signers"}
	n, owners := f.Site.Signers, len(c.p.Site.Owners)
	if !c.ix.has(path...) {
		if c.p.Profile == Demo || owners < DefaultSigners {
			return 1
		}
		return DefaultSigners
	}
	switch {
	case n < 1:
		c.at(path, "write how many of the owners have to sign, such as signers = 2", "%d owners can't sign anything", n)
	case owners > 0 && n > owners:
		c.at(path, "name more owners, or want fewer signatures", "%d signatures of %d owners: nobody could ever change the policy", n, owners)
	}
	return n
}
