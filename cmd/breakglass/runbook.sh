#!/bin/sh
# Breaking the glass without breakglass: curl, jq, ssh-keygen and ssh, with your enrolled security key plugged in.
#   sh runbook.sh LOGIN HOST "why, in a sentence" [COMMAND]
# A rule that wants the code of your other device too: TOTP=123456 sh runbook.sh …
# A software or agent-held key: set SSH_SK_PROVIDER as ssh-keygen(1) says.
#
# With breakglass on a laptop that knows nothing yet, this is enough, then "breakglass ssh LOGIN@HOST" (no secret; dashes may be left out):
#   breakglass pins import --person NAME \
#     LINE
set -eu

# What your token pinned; `breakglass pins` shows it.
CA=198.51.100.1:8443
JUMP=198.51.100.2:22
SPKI=0000                    # SHA-256 of the CA's TLS key, hex
HOST_CA='ssh-ed25519 AAAA'   # who vouches for host names
PERSON=alice
ORIGIN=breakglass/example

LOGIN=$1 HOST=$2 WHY=$3
shift 3
umask 077
DIR=$(mktemp -d)
trap 'rm -rf "$DIR"' EXIT
cd "$DIR"

# 1. A key for this grant alone.
ssh-keygen -q -t ed25519 -N '' -C '' -f client

# 2. Ask. TLS is judged by the pinned key: -k turns the name and the date off, --pinnedpubkey is the check.
PIN="sha256//$(printf %s "$SPKI" | sed 's/../\\x&/g' | xargs -0 printf | base64)"
post() { curl -sS -k --pinnedpubkey "$PIN" -H 'Content-Type: application/json' --data-binary @- "https://$CA$1"; }
jq -n --arg person "$PERSON" --arg login "$LOGIN" --arg host "$HOST" --arg reason "$WHY" \
      --arg key "$(cut -d' ' -f1,2 client.pub)" \
      '{person:$person, login:$login, host:$host, reason:$reason, client_key:$key}' | post /v1/requests >challenge
jq -e .statement challenge >/dev/null || { jq -r '.code + ": " + .detail' challenge >&2; exit 1; }

# 3. Read what you sign: person, login, host, reason, client-key must be yours.
jq -j .statement challenge >statement
cat statement >&2
ssh-keygen -l -f client.pub >&2

# 4. Sign with the key that is plugged in: each of yours is tried. PIN and touch.
n=$(jq '.keys | length' challenge)
i=0
while [ "$i" -lt "$n" ]; do
	jq -j ".keys[$i].key_file" challenge >key
	jq -r ".keys[$i].public_key" challenge >key.pub
	rm -f statement.sig
	ssh-keygen -Y sign -f key -n "$(jq -r .namespace challenge)" statement >&2 && break
	i=$((i + 1))
done
[ -s statement.sig ] || { echo 'no key signed' >&2; exit 1; }

# 5. Send the signature; the certificate comes back.
ID=$(jq -r .id challenge)
jq -n --rawfile sig statement.sig --arg totp "${TOTP:-}" '{sshsig:$sig} + (if $totp == "" then {} else {totp:$totp} end)' |
	post "/v1/requests/$ID/signature" >granted

# It may need approvals: "breakglass approve ID" is for those who are named. The client key asks how it stands, with a signed call.
call() {
	printf 'breakglass call v1\norigin: %s\nmethod: GET\npath: %s\nbody: %s\nissued: %s\nnonce: %s\n' "$ORIGIN" "$1" \
		"$(printf '' | sha256sum | cut -d' ' -f1)" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n')" >call
	rm -f call.sig
	ssh-keygen -q -Y sign -f client -n call@breakglass call 2>/dev/null
	curl -sS -k --pinnedpubkey "$PIN" -H "Breakglass-Call: $(base64 <call | tr -d '\n')" -H "Breakglass-Signature: $(base64 <call.sig | tr -d '\n')" "https://$CA$1"
}
while jq -e .approvers granted >/dev/null; do
	jq -r '"waiting for approval of " + .id + ": " + (.given|tostring) + " of " + (.needed|tostring) + " by " + ([.approvers[].person] | join(", "))' granted >&2
	sleep 3
	call "/v1/requests/$ID" >state
	jq '.granted // .problem // .waiting // .' state >granted
done
jq -e .certificate granted >/dev/null || { jq -r '(.code // .state // "no answer") + ": " + (.detail // ""), (.reasons[]? | .code + ": " + .detail)' granted >&2; exit 1; }
jq -r .certificate granted >client-cert.pub
printf '@cert-authority * %s\n' "$HOST_CA" >known_hosts

# 6. In, through the jump. The name of the host goes ahead of ssh in a PROXY v2 header (LOCAL, authority TLV).
len=${#HOST}
cat >connect <<CONNECT
#!/bin/bash
exec 3<>/dev/tcp/${JUMP%:*}/${JUMP##*:}
printf '\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x$(printf %02x $((len + 3)))\x02\x00\x$(printf %02x "$len")$HOST' >&3
cat <&3 & cat >&3
CONNECT
chmod 700 connect
ssh -F none -o User="$LOGIN" -o HostKeyAlias="$HOST" -o ProxyCommand="$DIR/connect" -o IdentitiesOnly=yes -o IdentityAgent=none \
    -o IdentityFile="$DIR/client" -o CertificateFile="$DIR/client-cert.pub" -o StrictHostKeyChecking=yes \
    -o UserKnownHostsFile="$DIR/known_hosts" -o GlobalKnownHostsFile=/dev/null "$HOST" "$@"
