package ledger

// sessionHead holds a head against the one before: heads only grow.
func (a *Audit) sessionHead(s *Session, f *SessionHead) {
	if a.overBefore(s) {
		return
	}
	a.behindHeads(s, &f.Head)
	if f.Head.Frames < 1 || f.Head.Bytes < f.Head.Frames {
		a.fault(FaultTranscript, "head of %d frames in %d bytes", f.Head.Frames, f.Head.Bytes)
	}
	if k := len(s.Heads); k > 0 && s.Heads[k-1].Frames == f.Head.Frames {
		a.fault(FaultTranscript, "the head of %d frames again", f.Head.Frames)
		return
	}
	s.Heads = append(s.Heads, f.Head)
}

// behindHeads demands that a head doesn't go back behind the last, and is the same where it is at the same frame.
func (a *Audit) behindHeads(s *Session, h *Head) {
	if len(s.Heads) == 0 {
		return
	}
	last := s.Heads[len(s.Heads)-1]
	switch {
	case h.Frames < last.Frames || h.Bytes < last.Bytes || h.Frames > last.Frames && h.Bytes == last.Bytes:
		a.fault(FaultTranscript, "head of %d frames and %d bytes after one of %d and %d", h.Frames, h.Bytes, last.Frames, last.Bytes)
	case h.Frames == last.Frames && *h != last:
		a.fault(FaultTranscript, "two heads of %d frames differ", h.Frames)
	}
}

func (a *Audit) overBefore(s *Session) bool {
	h, _ := s.Head()
	if h != nil {
		a.fault(FaultSession, "session %s was over by entry %d", s.ID, s.OverIndex)
	}
	return h != nil
}
