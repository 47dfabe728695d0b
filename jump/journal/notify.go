package journal

// Notify has durable called for each entry that became durable, in order, and rolled when a segment was taken into use. Both are called by the one
// writer: they must be quick, must not call the journal, and e.Data is the caller's again when durable returns. There is one listener; what was appended before isn't told.
func (j *Journal) Notify(durable func(e Entry), rolled func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.durable, j.rolled = durable, rolled
}

// Old lists the streams of which an entry that isn't trimmed lies n segments or more behind the one in use. They keep it from being used again.
func (j *Journal) Old(n int) []SID {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.tail == nil {
		return nil
	}
	seen := map[SID]bool{}
	var old []SID
	for _, s := range j.segments {
		if s.free || s.gen+uint64(n) > j.tail.gen {
			continue
		}
		for sid, sp := range s.streams {
			if st := j.streams[sid]; st != nil && sp.last >= st.trimmed && !seen[sid] {
				seen[sid] = true
				old = append(old, sid)
			}
		}
	}
	return old
}

// Segments is how many there are.
func (j *Journal) Segments() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.segments)
}
