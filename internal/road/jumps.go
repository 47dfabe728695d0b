package road

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// JumpDir is where a jump lives: the road's own, or one that JoinJump made.
func (r *Road) JumpDir(name string) string {
	if name == Jump {
		return r.path("jump")
	}
	return r.path(name)
}

// JoinJump makes one more jump, which the policy names, and joins it. It doesn't run yet.
func (r *Road) JoinJump(ctx context.Context, name, address string) error {
	r.say("jump     %s on %s", name, address)
	token, err := r.Run(ctx, "breakglass-ca", "invite", "--dir", r.path("ca"), "--jump", name)
	if err != nil {
		return err
	}
	if _, err := r.Run(ctx, "breakglass-jump", "join", strings.TrimSpace(token), "--dir", r.JumpDir(name), "--listen", address, "--source", "127.0.0.1"); err != nil {
		return err
	}
	r.jumps = append(r.jumps, name)
	return nil
}

// StartOther starts a jump of JoinJump; its name is its process's, too.
func (r *Road) StartOther(ctx context.Context, name, address string) error {
	return r.spawn(ctx, name, address, nil, filepath.Join(r.Bin, "breakglass-jump"), "serve", "--dir", r.JumpDir(name))
}

// StartShared starts a jump, the road's own or another, that is handed its listener as systemd does: as descriptor 3, with its own process id in the
// environment, which a shell knows before it becomes the jump.
func (r *Road) StartShared(ctx context.Context, name string, l *net.TCPListener, env ...string) error {
	f, err := l.File()
	if err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	defer f.Close()
	proc := name
	if name == Jump {
		proc = "jump"
	}
	return r.start(ctx, proc, l.Addr().String(), append(env, "LISTEN_FDS=1", "LISTEN_FDNAMES=breakglass-jump.socket"), []*os.File{f},
		"/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, filepath.Join(r.Bin, "breakglass-jump"), "serve", "--dir", r.JumpDir(name))
}
