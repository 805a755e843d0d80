# `make help` lists what there is to do. Everything is set up on the way: a
# bare Debian 12 with git, curl, make and rustup is enough.

PREFIX  ?= /usr/local
DESTDIR ?=
LISTEN  ?= 127.0.0.1:8000
ENGINES ?= 2

# rustup may have been installed by the very shell that runs this.
export PATH := $(PATH):$(HOME)/.cargo/bin
TARGET  := $(or $(CARGO_TARGET_DIR),target)
STATIC_TARGET := $(shell uname -m)-unknown-linux-gnu

# In CI a missing io_uring or Docker is a failure, elsewhere a SKIP line.
ifeq ($(CI),true)
export REQUIRE_URING := 1
export REQUIRE_DOCKER := 1
endif

.DEFAULT_GOAL := help
.PHONY: help setup setup-test build run test fmt clippy panel bench bench-quick static install uninstall clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup: ## Install what building needs
	@.ci/setup build

setup-test: ## Install what testing needs: players, a browser, network tools
	@.ci/setup test

build: setup ## Build the release binary
	cargo build --release --locked --package millrace

run: build ## Serve emulated engines on LISTEN (127.0.0.1:8000), ENGINES of them (2)
	exec $(TARGET)/release/millrace serve --listen $(LISTEN) --emulate $(ENGINES)

fmt: setup
	cargo fmt --all --check

clippy: setup
	cargo clippy --workspace --all-targets --locked -- -D warnings

test: setup-test fmt clippy ## Formatting, lints, all tests, and the benches in their short form
	@.ci/test

panel: setup-test ## Build the pages anew from control/panel, where they were changed
	cd control/panel && npm ci && npm run build

bench-quick: setup
	cargo bench --package millrace --locked --benches -- --quick

bench: setup ## Measure: every bench in full
	cargo bench --package millrace --locked --benches

static: setup ## Build a static binary, as the container image needs it
	RUSTFLAGS='-C target-feature=+crt-static' \
		cargo build --release --locked --package millrace --target $(STATIC_TARGET)

install: build ## Install binary, systemd unit and example configuration below DESTDIR/PREFIX
	install -D -m 755 $(TARGET)/release/millrace $(DESTDIR)$(PREFIX)/bin/millrace
	install -D -m 644 deploy/millrace.toml $(DESTDIR)$(PREFIX)/share/doc/millrace/millrace.toml
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|/usr/local/bin/|$(PREFIX)/bin/|' deploy/millrace.service \
		> $(DESTDIR)$(PREFIX)/lib/systemd/system/millrace.service

uninstall: ## Remove what install put there
	rm -f $(DESTDIR)$(PREFIX)/bin/millrace $(DESTDIR)$(PREFIX)/lib/systemd/system/millrace.service
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/millrace

clean: ## Remove what was built
	cargo clean
