//go:build !linux && !darwin

package connect

import (
	"bytes"
	"io"
)

// speaks reads the first bytes; Hand gives them to ssh.
func (c *Conn) speaks() error {
	first := make([]byte, len(identification))
	if _, err := io.ReadFull(c.TCPConn, first); err != nil {
		return err
	}
	if err := judge(first, io.MultiReader(bytes.NewReader(first), c.TCPConn)); err != nil {
		return err
	}
	c.head = first
	return nil
}
