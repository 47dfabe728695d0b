package ledger

import "breakglass/internal/name"

// TypeCARestored is the type of CARestored.
const TypeCARestored Type = "ca.restored"

// CARestored is the first entry after a ledger that lacked its end went on. What jumps had of the end stands before it, as it was; what nobody had is
// lost, and this is where that is said.
type CARestored struct {
	Why     string      `json:"why"`              // "restored" from a backup, or "behind" a head that it had signed
	Backup  Time        `json:"backup,omitzero"`  // when the backup was made
	Entries int64       `json:"entries"`          // that the ledger had then
	Jumps   []name.Jump `json:"jumps,omitempty"`  // that have shown what they keep
	Silent  []name.Jump `json:"silent,omitempty"` // that have not: local root went on without them
	Lost    int64       `json:"lost,omitempty"`   // entries that are known to have been there
}

func (*CARestored) EntryType() Type { return TypeCARestored }
