# make stack   the real parts that the tests run against (once; minutes)
# make build   the drover program
# make test    everything that must hold before a change is taken
# make demo    a tour with real parts; DEMO_EXIT=1 ends it instead of leaving it running
# make clean   what cargo built; the stack stays

SHELL := bash
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/drover
export CARGO_TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CACHE)/target)

# A fast linker where there is one: debug builds spend much of their time in linking.
ifneq ($(shell command -v mold),)
export RUSTFLAGS ?= -C link-arg=-fuse-ld=mold
else ifneq ($(shell command -v ld.lld),)
export RUSTFLAGS ?= -C link-arg=-fuse-ld=lld
endif

STACK = source "$(CACHE)/stack/env" &&

.PHONY: stack build test demo clean

stack: tools
	@tests/stack/build.sh

build: tools
	cargo build --locked

test: stack
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	$(STACK) "$$DROVER_STACK_BIN/cargo-deny" --locked check bans licenses sources
	$(STACK) cargo test --locked

demo: stack
	$(STACK) cargo run --locked --example demo

clean: tools
	cargo clean

.PHONY: tools
tools:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.92 or newer (https://rustup.rs)"; exit 1; }
	@command -v go >/dev/null || { echo "go is missing: install Go 1.26 or newer (https://go.dev/dl)"; exit 1; }
	@command -v c++ >/dev/null || { echo "a C++ compiler is missing: install g++ (Debian: apt-get install g++)"; exit 1; }
