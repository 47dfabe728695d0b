// Package roadtest holds no code: its tests drive the shipped programs as people do, over stock ssh, scp, sftp, rsync, git and
// sshd, with software keys through the real libfido2, and look for each run in its transcript. The scripts of testdata/script
// share one road (internal/road); what breaks things starts a road of its own.
package roadtest
