# Every target is safe to repeat; what is built once is kept under target/.
.DEFAULT_GOAL := help
.PHONY: help build tools demo test faults soak overload fuzz bench bench-controller bench-composite image crds lint clean setup-build setup-test setup-bench

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup-build:
	@scripts/setup.sh build

setup-test:
	@scripts/setup.sh test

setup-bench:
	@scripts/setup.sh bench

# The whole workspace, as the tests build it: another selection of packages would build dependencies twice.
build: setup-build ## Build both binaries into target/release
	cargo build --release --workspace

demo: build ## Record the built-in test pattern into target/demo: no cluster, no SFU
	target/release/recording-operator local -f examples/test-pattern.yaml --output target/demo

tools: setup-test ## Build the real servers that the tests run against (10 min cold)
	@scripts/tools.sh
	@scripts/image.sh pause

image: build ## Make target/image/recording-operator.tar, loadable by any container runtime
	@scripts/image.sh operator

test: setup-test ## Run every test against real servers, which are built meanwhile
	@scripts/test.sh

faults: setup-test tools ## Everything that can be killed or taken away on a real cluster, lost nodes too (15 min)
	@cargo build --release --workspace && scripts/image.sh operator
	@CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$(CURDIR)/scripts/test-runner.sh cargo test --release --workspace --test cluster -- --include-ignored --nocapture --skip soak::

SOAK_SEED ?= 1
SOAK_FAULTS ?= 50
soak: setup-test tools ## One recording through SOAK_FAULTS (50) faults in the order of SOAK_SEED (1), on a real cluster (25 min)
	@cargo build --release --workspace && scripts/image.sh operator
	@CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$(CURDIR)/scripts/test-runner.sh SOAK_SEED=$(SOAK_SEED) SOAK_FAULTS=$(SOAK_FAULTS) \
		cargo test --release --workspace --test cluster -- --include-ignored --nocapture soak::

overload: setup-test tools ## A composite that gets less CPU than it takes, for 30 s and for good (7 min, root)
	@cargo build --release --workspace
	@CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$(CURDIR)/scripts/test-runner.sh cargo test --release --workspace --test overload -- --ignored --nocapture --test-threads 1

FUZZ_SECONDS ?= 1200
fuzz: setup-test ## Fuzz every target for FUZZ_SECONDS (20 minutes), two at a time; findings stay in target/fuzz
	@scripts/fuzz.sh $(FUZZ_SECONDS)

bench: setup-bench build ## Measure what recording costs beside GStreamer, Janus and MediaMTX (25 min)
	@scripts/tools.sh livekit load mediamtx floor
	@scripts/bench.sh

bench-controller: setup-test tools ## Measure the controller with 10,000 Recordings on a real API server (5 min)
	@cargo build --release --workspace
	@cargo test --release --workspace --test scale -- --ignored --nocapture

bench-composite: setup-bench build ## Measure what composing costs beside FFmpeg and GStreamer (30 min)
	@cargo build --release --workspace --example receive
	@scripts/tools.sh livekit load
	@scripts/bench-composite.py

crds: setup-build ## Write crds/recordings.yaml again from the types
	cargo run --quiet --release -p recording-controller -- crds >target/recordings.yaml
	mv target/recordings.yaml crds/recordings.yaml
	cp crds/recordings.yaml charts/recording-operator/files/

lint: setup-build ## Formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets --features recording-fuzz/libfuzzer -- -D warnings

clean: ## Remove everything that was built, the servers too
	rm -rf target
