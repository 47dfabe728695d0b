package ca

import "context"

// NoteRecipients is what watchRecipients does each minute.
func (c *CA) NoteRecipients(ctx context.Context) error { return c.noteRecipients(ctx) }
