package jump

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// rekeyed is how many MiB pass while keys change at every one of them.
func rekeyed() int64 { return min(max(8, int64(mebibytes())/8), 60) }

// stocked has what rows read: a mebibyte, and n of them.
func (w *world) stocked(n int64) (big string) {
	w.t.Helper()
	write := func(file string, size int64) {
		f, err := os.Create(file)
		check(w.t, err)
		_, err = io.Copy(f, io.LimitReader(&lcg{}, size))
		check(w.t, err)
		check(w.t, f.Close())
	}
	big = filepath.Join(w.dir, "big")
	write(big, n<<20)
	write(filepath.Join(w.dir, "mebibyte"), 1<<20)
	return big
}

// tree makes $D/src: names, modes, times, a link, an empty directory.
const tree = `mkdir -p src/deep/er src/empty; cp $X src/a; head -c 70000 $X >src/deep/b; : >src/deep/nothing; printf x >'src/a name'
chmod 640 src/a; chmod 755 src/deep/b; touch -d 2001-02-03T04:05:06Z src/a src/deep/b; ln -s deep/b src/link
listing() { (cd $1 && find . -printf '%P %y %m %s %l\n' | sort; find . -type f -exec sha256sum {} + | sort -k2); }
stamps() { (cd $1 && find . -type f -printf '%P %T@\n' | sort | grep -v nothing | grep -v name); }
`

// await is shell that waits for something, a minute at most: whatever takes time is waited for, never guessed.
func await(test string) string {
	return `n=0; until ` + test + ` 2>/dev/null || [ $n -gt 600 ]; do n=$((n+1)); sleep 0.1; done`
}

func TestTheSameAsStraight(t *testing.T) {
	w := newWorld(t)
	big := w.stocked(rekeyed())
	for _, r := range []row{
		// How a command ends.
		{is: "exit 0", script: `$SSH -F $F $H true`, lines: []string{"exit-status", `\x00\x00\x00\x00`}},
		{is: "exit 1", script: `$SSH -F $F $H exit 1`},
		{is: "exit 7", script: `$SSH -F $F $H 'echo a; echo b >&2; exit 7'`},
		{is: "exit 255", script: `$SSH -F $F $H exit 255`},
		{is: "no such command", script: `$SSH -F $F $H /no/such/command`},
		{is: "killed by a signal", script: `for s in HUP INT TERM KILL USR1 PIPE SEGV; do $SSH -F $F $H 'echo before; kill -'$s' $$; sleep 9'; echo $s $?; done`,
			lines: []string{"asked host exit-signal"}},

		// Streams and their ends.
		{is: "stderr apart, both long, a slow reader", script: `{ $SSH -F $F $H "head -c 6000000 $B; head -c 6000000 $B >&2; exit 2"; echo $? >code; } 2>&1 >out | (sleep 1; sha256sum); sha256sum <out; cat code`},
		{is: "EOF before close, from the person", script: `printf in | $SSH -F $F $H 'cat; sleep 0.3; echo late'`, lines: []string{"1 F person"}},
		{is: "EOF before close, from the host", script: `(sleep 1; printf late) | $SSH -F $F $H 'exec >&- 2>&-; cat >'$D'/got; exit 9'; echo $?; cat got`, lines: []string{"1 F host"}},
		{is: "a host that leaves early, 50 MB on their way", script: `head -c 50000000 /dev/zero | $SSH -F $F $H 'head -c 1000 | wc -c; exit 3'`, part: true},
		{is: "a host that closes its input", script: `head -c 5000000 /dev/zero | $SSH -F $F $H 'exec 0<&-; sleep 0.5; echo went on; exit 4'`, part: true},
		{is: "a reader that leaves early", script: `{ $SSH -F $F $H "cat $X $X $X; echo" 2>/dev/null; echo $? >code; } | head -c 100000 | sha256sum`, untapped: true},
		{is: "a background process that holds the output", script: `$SSH -F $F $H '(sleep 0.5; echo behind) & echo before'`},
		{is: "every byte", script: `i=0; while [ $i -lt 256 ]; do printf "\\$(printf %o $i)"; i=$((i+1)); done >all; $SSH -F $F $H cat <all >back; cmp all back && wc -c <back`},
		{is: "a mebibyte there, turned over and back", script: `$SSH -F $F $H "tr '\000-\377' '\001-\377\000'" <$X | sha256sum`},
		{is: "here-document", script: "$SSH -F $F $H bash -s -- one 'two\\ words' <<'EOF'\nprintf '%s|' \"$@\"\necho $((6*7))\nexit 5\nEOF\n"},
		{is: "quotes, line ends and odd names", script: `$SSH -F $F $H "printf '%s\n' 'a b' \"c
d\" \$HOME '*' é | sed 's/x/y/'"`},
		{is: "a long command", script: `$SSH -F $F $H ": $(head -c 100000 /dev/zero | tr '\0' x); echo ran"`},
		{is: "rekeying in the middle", script: `$SSH -F $F -o RekeyLimit=1M $H cat <$B | sha256sum`},
		{is: "compression asked for", script: `$SSH -F $F -C $H cat <$X | sha256sum`},

		// Options.
		{is: "-n", script: `echo unread | $SSH -F $F -n $H 'cat; echo end'`, mute: true},
		{is: "-T", script: `$SSH -F $F -T $H tty`},
		{is: "-tt", script: `$SSH -F $F -tt $H 'stty size; tty >/dev/null && echo a terminal; echo to stderr >&2; exit 6' </dev/null`, chatty: true, lines: []string{"person pty-req"}},
		{is: "-s", script: `(printf '\0\0\0\5\1\0\0\0\3'; ` + await(`[ -s out ]`) + `) | $SSH -F $F -s $H sftp >out; head -c 32 out | od -An -c`, lines: []string{"person subsystem"}},
		{is: "-s, and no such subsystem", script: `$SSH -F $F -s $H nosuch`, chatty: true, lines: []string{"refused person subsystem"}},
		{is: "-N", script: `timeout 4 ssh -F $F -N $H 2>/dev/null; echo $?`, untapped: true, idle: true},
		{is: "-f", script: `ssh -F $F -f $H "sleep 0.5; echo there >$D/f" </dev/null >/dev/null; echo $?; sleep 3; cat f`, untapped: true},
		{is: "RemoteCommand", script: `$SSH -F $F -o RemoteCommand='echo remote; exit 3' $H`},
		{is: "LocalCommand", script: `$SSH -F $F -o PermitLocalCommand=yes -o LocalCommand='echo here' $H 'sleep 0.3; echo there'`, untapped: true},
		{is: "environment", script: `$SSH -F $F -o SetEnv='GOOD=yes BAD=no LANG=C' -o SendEnv=LC_GIVEN $H 'echo "$GOOD/$BAD/$LANG/$LC_GIVEN"'`, lines: []string{"asked person env", "BAD"}},
		{is: "keepalives of the client", script: `$SSH -F $F -o ServerAliveInterval=1 -o ServerAliveCountMax=3 $H 'sleep 3; echo there'`},
		{is: "break", script: `(sleep 1; printf '~Bhello\n'; sleep 1) | $SSH -F $F -tt $H 'read x; echo "got $x"; exit 5'`, chatty: true, typed: "hello\n", lines: []string{"asked person break"}},
		{is: "the escape that ends it", script: `(sleep 1; printf '~.'; sleep 3) | $SSH -F $F -tt $H 'sleep 60'`, untapped: true, chatty: true},
		{is: "Ctrl-C on a terminal", script: `(` + await(`grep -q ready out`) + `; printf '\003'; ` + await(`[ -e code ]`) + `) | { $SSH -F $F -tt $H "trap 'echo; echo caught; exit 130' INT; echo ready; sleep 200" >out; echo $? >code; }; cat out code`, chatty: true},
		{is: "Ctrl-D on a terminal", script: `(sleep 1; printf 'line\n\004'; sleep 1) | $SSH -F $F -tt $H 'cat; echo over'`, chatty: true},

		// Files.
		{is: "tar there", script: tree + `tar c -C src . | $SSH -F $F $H "mkdir $D/dst; tar x -C $D/dst"; listing dst; stamps dst`},
		{is: "tar back", script: tree + `mkdir dst; $SSH -F $F $H "tar c -C $D/src ." | tar x -C dst; listing dst; stamps dst`},
		{is: "scp -p -r, both ways", script: tree + `scp -q -S $SSH -F $F -p -r src $H:$D/there; echo $?; scp -q -S $SSH -F $F -p -r $H:$D/there back; echo $?; listing there; listing back; stamps back`},
		{is: "scp -O -p -r, both ways", script: tree + `scp -q -O -S $SSH -F $F -p -r src $H:$D/there; echo $?; scp -q -O -S $SSH -F $F -p -r $H:$D/there back; echo $?; listing there; listing back; stamps back`},
		{is: "scp -3", script: tree + `scp -q -3 -S $SSH -F $F $H:$D/src/a $H:$D/copy; echo $?; cmp src/a copy`},
		{is: "scp of what isn't there", script: `scp -S $SSH -F $F $H:$D/nosuch .; echo $?; scp -O -S $SSH -F $F $H:$D/nosuch .; echo $?`},
		{is: "scp to where nobody may", script: `scp -S $SSH -F $F $X $H:/proc/no/such; echo $?; scp -O -S $SSH -F $F $X $H:/proc/no/such; echo $?`, part: true, chatty: true},
		{is: "sftp in a batch", script: tree + `cat >../batch <<EOF
put src/a $D/there
put -r src $D/all
rename $D/there $D/renamed
symlink renamed $D/sym
chmod 600 $D/renamed
mkdir $D/made
rmdir $D/made
get $D/sym $D/got
reget $D/sym $D/got
ls -1 $D/all
-rm $D/nosuch
get -r $D/all $D/again
EOF
sftp -S $SSH -F $F -b ../batch $H; echo $?; listing .`},
		{is: "sftp's batch that fails", script: `printf 'get /no/such\nls\n' | sftp -q -S $SSH -F $F -b - $H; echo $?`},
		{is: "rsync -a -z, and again with a difference", tools: []string{"rsync"}, script: tree + `rsync -a -z -e "$SSH -F $F" src/ $H:$D/there; echo $?
printf changed | dd of=src/a conv=notrunc bs=1 seek=500000 2>/dev/null; rm src/deep/nothing; touch -d 2002-02-02T02:02:02Z src/a; touch -d 2003-03-03T03:03:03Z src/deep
rsync -a --delete --no-whole-file --checksum -i -e "$SSH -F $F" src/ $H:$D/there; echo $?; listing there; stamps there
rsync -a -e "$SSH -F $F" $H:$D/there/ back; echo $?; listing back`},
		{is: "rsync --partial goes on", tools: []string{"rsync"}, script: `mkdir there; head -c 3000000 $B >there/big; rsync --partial --append-verify -e "$SSH -F $F" $B $H:$D/there/big; echo $?; cmp $B there/big`},
		{is: "git: clone, shallow clone, push, fetch", tools: []string{"git"}, script: `export GIT_SSH_COMMAND="$SSH -F $F" GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@a
export GIT_AUTHOR_DATE=@1000000000+0000 GIT_COMMITTER_DATE=@1000000000+0000
set -e; git init -q -b main --bare r.git; git clone -q $H:$D/r.git w 2>/dev/null; cd w; git checkout -q -b main
cp $X f; git add f; git commit -q -m one; echo 2 >g; git add g; git commit -q -m two; git push -q origin main
cd ..; git clone -q --depth 1 $H:$D/r.git s; git -C s log --format=%H%s; cmp $X s/f
git -C s fetch -q --unshallow; git -C s log --format=%H%s; git -C s push -q origin main:refs/heads/other; git -C r.git for-each-ref`},
	} {
		t.Run(r.is, func(t *testing.T) { same(t, w, big, r) })
	}
}

// A host that asks for keys and signs of life by itself, and allows two sessions in one connection.
func TestTheSameAsStraightToAStrictHost(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.startSSHD("ClientAliveInterval 1", "ClientAliveCountMax 3", "RekeyLimit 1M", "MaxSessions 2", "AcceptEnv ALL_*", "PermitTTY no")
		w.ca.hosts["web01"].address = w.sshd
	})
	big := w.stocked(rekeyed())
	for _, r := range []row{
		{is: "the host rekeys in the middle", script: `$SSH -F $F $H cat <$B | sha256sum`},
		{is: "the host asks who is there", script: `$SSH -F $F $H 'sleep 3; echo still there'`},
		{is: "no terminal", script: `$SSH -F $F -tt $H 'tty; echo ran' </dev/null`, chatty: true, lines: []string{"refused person pty-req"}},
		{is: "environment that this host takes", script: `$SSH -F $F -o SetEnv='ALL_GOOD=1 BAD=2' $H 'echo $ALL_GOOD/$BAD'`},
		{is: "a third session in one connection", untapped: true, script: `ssh -F $F -M -N -f -S $D/c $H >/dev/null 2>&1
>out1; >out2; for i in 1 2; do sleep 5 | ssh -F $F -S $D/c $H 'echo up; cat >/dev/null' >out$i & done
n=0; until [ "$(cat out1 out2 | wc -l)" = 2 ] || [ $n = 100 ]; do n=$((n+1)); sleep 0.05; done
ssh -F $F -S $D/c -o ProxyCommand=false $H echo third 2>&1 | grep -o 'Session open refused by peer'
wait; ssh -F $F -S $D/c -O exit $H 2>/dev/null; cat out1 out2`, lines: []string{"refused person session"}},
	} {
		t.Run(r.is, func(t *testing.T) { same(t, w, big, r) })
	}
}
