package ledger

import (
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/sshcert"
)

// Slack is how far the host's clock may be from the CA's, either way.
func (f *SessionOpened) Slack() time.Duration {
	return max(sshcert.SessionSlack, time.Duration(f.ClockSlack)*time.Second)
}

// InSlack says whether the session certificate c reaches no further than the host's clock may be off.
func (f *SessionOpened) InSlack(c *ssh.Certificate) error {
	if life := time.Duration(c.ValidBefore-c.ValidAfter) * time.Second; life > 2*f.Slack() {
		return fmt.Errorf("session certificate good for %v, where the host's clock may be off by %v", life, f.Slack())
	}
	return nil
}
