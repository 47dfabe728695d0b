// Package witness makes a jump a witness of the CA's ledger (C2SP tlog-cosignature), and the keeper of a copy of it.
//
// Guarantees, to everybody who relies on a jump's cosignature:
//
//   - It cosigns only heads that the ledger's own key signed, of the pinned origin, and each of them holds the last one that it cosigned as its beginning: it has read
//     every entry between them itself and made the tree of them.
//   - What it cosigned is durable here first, the entries and the head, flushed with their directory. So it never signs two histories, whenever the power goes. A
//     directory that was put back from an old copy is the one thing that it can't notice: it must not be restored.
//   - A head that goes back or sideways is refused, kept beside the last good one (refused-*.txt) and told, and nothing else is cosigned until
//     the CA shows a head again that continues what was cosigned.
//
// And to a CA that was restored from an old copy: all entries up to the newest cosigned head are here, to be read with Mirror.
//
// # The directory
//
//	head            the newest cosigned head: a signed note with the ledger's signature and ours
//	entries         each entry: length u32, then its bytes
//	offsets         for each entry u64: where it ends in entries
//	hashes          the tree's stored hashes, 32 bytes each (golang.org/x/mod/sumdb/tlog, StoredHashIndex)
//	refused-N.txt   a head that was refused at size N, behind the cosigned head of then
//
// All numbers are big endian. What lies behind the head's size was written before a cut, is unsigned, and is written over. One process owns the directory.
package witness
