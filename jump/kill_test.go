package jump

func childJump(dir, address, sshd string) error { return nil }
