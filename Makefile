# make demo   a fresh machine to a recorded, replayed, verified shell
# make test   everything that can be shown on this machine
#
# Both install the Debian packages that they need (root, or sudo) or say which. See README.md.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

BIN := build/bin
PROGRAMS := breakglass breakglass-ca breakglass-jump breakglass-fido2
# What cgo, the tests and the demo call on. Nothing else has to be on the machine but Go and make.
PACKAGES := gcc libc6-dev libfido2-dev openssh-client openssh-server rsync git jq curl procps softhsm2 opensc age fido2-tools \
	putty-tools dropbear-bin python3-paramiko ssh-audit tmux ansible-core asciinema e2fsprogs xfsprogs mount
FILES := /usr/bin/gcc /usr/include/fido.h /usr/bin/ssh /usr/sbin/sshd /usr/bin/rsync /usr/bin/git /usr/bin/jq /usr/bin/curl /usr/bin/top /usr/bin/softhsm2-util /usr/bin/pkcs11-tool /usr/bin/age /usr/bin/fido2-assert \
	/usr/bin/plink /usr/bin/dbclient /usr/lib/python3/dist-packages/paramiko/__init__.py /usr/bin/ssh-audit /usr/bin/tmux /usr/bin/ansible-playbook \
	/usr/bin/asciinema /usr/sbin/mkfs.ext4 /usr/sbin/mkfs.xfs /usr/sbin/losetup
# How often the long tests repeat: small here, more in CI, whole in `make soak`.
N ?= 2
# Executions a fuzz target, not seconds: `go test` calls a worker that is busy at the deadline a failure.
FUZZTIME ?= 5000x
GOFLAGS_BUILD := -trimpath

.PHONY: build tools demo test check soak bench update fuzz deps clean

deps:
	@missing=; for f in $(FILES); do [ -e $$f ] || missing="$$missing $$f"; done; \
	command -v go >/dev/null || { echo "breakglass needs Go 1.26 or newer in PATH (https://go.dev/dl)" >&2; exit 1; }; \
	if [ -n "$$missing" ]; then \
	  as=; [ "$$(id -u)" = 0 ] || as=sudo; \
	  if ! command -v apt-get >/dev/null || ! { [ -z "$$as" ] || command -v sudo >/dev/null; }; then \
	    echo "missing:$$missing" >&2; echo "install (Debian names): $(PACKAGES)" >&2; exit 1; fi; \
	  echo "installing: $(PACKAGES)" >&2; \
	  $$as apt-get update -qq >&2; \
	  DEBIAN_FRONTEND=noninteractive $$as apt-get install -y -qq --no-install-recommends $(PACKAGES) >&2; \
	fi

# Stock tools that check us and that Debian 12 has not, or too old: tests look for them here, and skip without. They aren't part of our module: their own
# dependencies are none of ours.
TOOLS := filippo.io/age/cmd/age@v1.3.2 github.com/transparency-dev/tessera/cmd/fsck@v1.0.4 filippo.io/torchwood/cmd/litewitness@v0.9.0 \
	github.com/versity/versitygw/cmd/versitygw@v1.8.0

tools: deps
	@mkdir -p build/tools
	@for t in $(TOOLS); do n=$${t##*/}; [ -x build/tools/$${n%@*} ] || { echo "installing $$t" >&2; GOFLAGS= GOBIN=$(CURDIR)/build/tools go install $$t; }; done

build: deps
	@mkdir -p $(BIN)
	@CGO_ENABLED=0 go build $(GOFLAGS_BUILD) -o $(BIN)/ ./cmd/breakglass
	@CGO_ENABLED=1 go build $(GOFLAGS_BUILD) -o $(BIN)/ ./cmd/breakglass-ca ./cmd/breakglass-fido2
	@CGO_ENABLED=0 go build $(GOFLAGS_BUILD) -o $(BIN)/ ./cmd/breakglass-jump

demo: build
	@go build $(GOFLAGS_BUILD) -o build/breakglass-demo ./internal/demo
	@exec build/breakglass-demo -bin $(BIN) $${DEMO_DIR:+-dir "$$DEMO_DIR"}

test: build
	N=$(N) go test -timeout 20m ./...

check: deps
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "gofmt: $$bad" >&2; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go test ./internal/deptest
	CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 go build -o /dev/null ./cmd/breakglass
	CGO_ENABLED=0 GOOS=windows GOARCH=amd64 go build -o /dev/null ./cmd/breakglass

# Each fuzz target for FUZZTIME, some seconds, from its seed corpus.
fuzz: deps
	@grep -rhoE --include='*_test.go' -H 'func Fuzz[A-Za-z0-9]+' . | sed -E 's#^(.*)/[^/]*:func (Fuzz.*)#\1 \2#' | sort -u | \
	while read -r dir f; do echo "$$dir $$f"; go test "$$dir" -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s >build/fuzz.log 2>&1 || { cat build/fuzz.log; exit 1; }; done

soak: build
	N=$${SOAK_N:-500} SEED=new go test -timeout 6h -count=1 -v -run 'Kill|Crash|PowerCut|Soak|Machine' ./...

bench: build
	go run ./policy/bench
	go run ./internal/bench -bin $(BIN) -out build/bench.json
	go run ./cmd/storebench -out build/bench-store.json

# Writes golden files that don't exist yet; those of testdata/v1 are never changed.
update:
	go test ./internal/statement ./ledger ./transcript/... ./policy/... -update

clean:
	rm -rf build
