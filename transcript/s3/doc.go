// Package s3 keeps recordings in an S3 bucket with Object Lock in COMPLIANCE mode: nobody, the bucket's owner included, deletes or changes them before their
// retention ends.
//
// Guarantees, to the reviewer:
//
//   - What Put and Finish acknowledged is in the bucket, retained until at least Config.Retention from then.
//   - A recording is read by the version ids and hashes that its manifest names, and the manifest by those that the ledger's entry names. A delete marker hides nothing,
//     and a newer version under the same key is never looked at: with the bucket's credentials one can add, not replace.
//   - What comes back with another hash is an error that says which object it was (ErrDamaged), never bytes.
//
// And to whoever begins to use a bucket: Check proves on an object of its own that the lock holds, by trying to break it.
//
// # Objects
//
//	s/SESSION/OFFSET    a piece of the stream from that offset on, 16 digits
//	e/SESSION           the envelope
//	m/SESSION           the manifest: JSON {"v":1, "session", "size", "objects":[{"key", "version", "sha256", "offset", "size"}]}
//	check/RANDOM        what Check tried on
//
// SESSION is the id in the form of a file's name, k7f-2mq.1. Every PUT says If-None-Match: *, and carries its SHA-256.
package s3
