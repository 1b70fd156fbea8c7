# make stack   the real parts that the tests run against (once; minutes)
# make build   the drover program
# make test    everything that must hold before a change is taken
# make fuzz    feeds nonsense to whatever reads bytes from outside, for FUZZ_SECONDS (60) each
# make soak    what make test does briefly, for long: 1000 kills while the embedded API is written to, thousands of connections;
#              a gateway for 10 min at saturation while nodes fail, and 100 kills of one
# make bench   how Drover keeps to its goals of speed, in one table (25 min); BENCH="scale mirror" runs these parts only
# make bench-rollback   how soon a rollback is everywhere, and what 500 rollouts at once cost (6 min)
# make bench-gateway  the gateway next to nginx (6 min on a quiet machine); BENCH_SECONDS (1.5) is the time of each measurement
# make demo    a tour of `drover up` with real nodes, no Kubernetes needed; DEMO_EXIT=1 ends it instead of leaving it running
# make demo-cluster   the same tour on a Kubernetes API server
# make clean   removes what cargo built; the stack stays

SHELL := bash
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/drover
export CARGO_TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CACHE)/target)
# No linker is chosen here: on x86-64 Linux, Rust's own default is a fast one (LLD) since 1.90.

STACK = source "$(CACHE)/stack/env" &&
need = command -v $(1) >/dev/null || { echo "$(1) is missing; install $(2)"; exit 1; }

.PHONY: stack build test fuzz soak bench bench-gateway bench-rollback demo demo-cluster clean compilers

stack: compilers
	@$(call need,go,Go 1.26 or newer: https://go.dev/dl)
	@tests/stack/build.sh

build: compilers
	cargo build --locked

test: stack
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	$(STACK) "$$DROVER_STACK_BIN/cargo-deny" --locked check bans licenses sources
	@# Scenarios mostly wait for nodes: more of them at once than there are processors.
	$(STACK) RUST_TEST_THREADS=$$((2 * $$(nproc))) cargo test --locked

fuzz: compilers
	tests/fuzz/run.sh

soak: stack
	$(STACK) ulimit -n $$(ulimit -Hn) && DROVER_KILLS=1000 DROVER_SOCKETS=8000 \
		cargo test --locked --test conformance -- --nocapture --test-threads=1 outlives_kills ten_thousand_watchers
	$(STACK) ulimit -n $$(ulimit -Hn) && DROVER_SOAK_SECONDS=600 DROVER_GATEWAY_KILLS=100 \
		cargo test --locked --test gateway -- --nocapture --test-threads=1 nothing_is_lost however_the_gateway_dies

bench: stack
	@tests/stack/build.sh nginx
	$(STACK) cargo bench --locked --bench bench -- $(BENCH)

bench-gateway: stack
	@tests/stack/build.sh nginx
	$(STACK) cargo bench --locked --bench bench -- gateway

bench-rollback: stack
	$(STACK) cargo bench --locked --bench bench -- rollback

demo: compilers
	@$(call need,go,Go 1.26 or newer: https://go.dev/dl)
	@tests/stack/build.sh demo
	@$(call tour,env-demo,up)

demo-cluster: stack
	@$(call tour,env,cluster)

# tour ENV-FILE STAGE
define tour
	test -x "$$CARGO_TARGET_DIR/debug/examples/demo" || echo "demo: building Drover for the first time takes about 4 min on 2 cores"; \
	cargo build --locked --bins --example demo && \
	source "$(CACHE)/stack/$(1)" && exec "$$CARGO_TARGET_DIR/debug/examples/demo" $(2)
endef

clean: compilers
	cargo clean

compilers:
	@$(call need,cargo,Rust 1.92 or newer: https://rustup.rs)
	@$(call need,c++,a C++ compiler (Debian: apt-get install g++))
