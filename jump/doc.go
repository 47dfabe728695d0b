// Package jump is the recording jump host: one SSH connection in from a person, one out to the host of their grant, and every
// byte and request between them in the journal before it goes on.
//
// Guarantees.
//
// To the host's owner: nobody gets through who does not prove the key of a client certificate that the pinned client CA signed, from one
// of its addresses, as its login, to its host; and nobody without the CA's session.opened entry, whose inclusion proof and
// signed checkpoint were checked. What the session may do stands in that entry; the jump has no policy.
//
// To the auditor: nothing unrecorded. A channel opens only when the recording's header and envelope are durable; each read, request
// and answer is sealed and durable in the journal (jump/journal) before it is passed on, in both directions. What isn't recorded is
// refused. If it can't be recorded, it doesn't happen: the session is cut.
//
// To the person: the host is the one that the CA's entry names, by its host key; no trust on first use. What was shown or sent stands
// in the recording; stdout, stderr, exit status, signals and half-closed ends arrive as they were sent.
//
// A host behind a via (an SSH bastion, a SOCKS5 or an HTTP CONNECT proxy) is reached through it under the same guarantees: the via carries ciphertext, and a
// bastion whose key isn't the entry's is told and stopped at like a host.
//
// A jump that is told to end lets people finish, for a time that it tells them, while its listener may be another jump's already; what is left is cut, sealed
// and told (drain.go). One that can open nothing sends people to another before SSH begins (shut.go).
//
// Strangers write nothing but a sum a minute, hold bounded memory for a bounded time, and never keep the accept loop waiting.
//
// gliderlabs/ssh is the front: listener, handshake, context, handler maps. Its traps are named where they are avoided. Channels and
// requests are raw x/crypto ones.
package jump

import "time"

const (
	// preambleTimeout: a client that waits for our identification string sends nothing; go on without a preamble.
	preambleTimeout = time.Second
	// handshakeTimeout is how long a stranger may hold a connection before proving a key. A person with a touch-protected
	// client key elsewhere needs none here: the key is in memory.
	handshakeTimeout = 20 * time.Second
	// openTimeout bounds the CA's answer and the login to the host, after the proof.
	openTimeout = 40 * time.Second
	// caTimeout bounds the CA's answer alone, so that the person reads why.
	caTimeout = 10 * time.Second
	// maxUnproven and maxUnprovenPerNetwork cap connections that proved nothing yet: memory (about 100 KB each) and
	// descriptors stay for people. A network is a /24 or /48.
	maxUnproven           = 512
	maxUnprovenPerNetwork = 64
	// maxUnwrapping caps connections of listed proxies whose header isn't read yet.
	maxUnwrapping = 256
	// maxSessions bounds memory (about 150 KB each) and descriptors.
	maxSessions = 4096
	// maxChannels bounds the channels open at once in one session; sshd's MaxSessions is 10 by default.
	maxChannels = 128
	// maxAuthTries is OpenSSH's own default.
	maxAuthTries = 6
	// quickReads is how many reads of a connection ask for quick acknowledgement: through login and the first screens. Without it
	// Nagle on one side and delayed acknowledgement on the other cost 40 ms for each small packet.
	quickReads = 100
	// goodbyeTimeout bounds what a person is told at a cut: one that doesn't read is not waited for.
	goodbyeTimeout = 2 * time.Second
	// revokeTimeout is that for a revocation: the connection to the host is closed after it, whether the person has read why or not.
	revokeTimeout = 300 * time.Millisecond
	// leaveTimeout is how long a client may take to leave after it was told.
	leaveTimeout = time.Second
	// lingerTimeout bounds how long a host may take to read what a client sent before it left.
	lingerTimeout = 10 * time.Second
	// bigRead is a read in bulk; it costs one record and one flush.
	bigRead = 256 << 10
	// smallRead is what an idle channel holds while it waits.
	smallRead = 256
	// bulkRecord is the read from which on a session may have to wait for the store: larger than a screen.
	bulkRecord = 16 << 10
	// depth is how many reads of one direction may wait for the journal or the other side: one commits while the next is sealed.
	depth = 2
	// journalLow is the room at which sessions are cut, while there is still enough to end them properly.
	journalLow = 4 << 20
	// hostCertRefresh: certificates are good for 24 h, so a CA that is away for most of a day harms none.
	hostCertRefresh = time.Hour
	// strangersEvery is how often refusals are summed.
	strangersEvery = time.Minute
)
