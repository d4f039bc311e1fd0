# Every target is safe to repeat; what is built once is kept under target/.
.DEFAULT_GOAL := help
.PHONY: help build tools demo test image crds lint clean setup-build setup-test

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup-build:
	@scripts/setup.sh build

setup-test:
	@scripts/setup.sh test

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

test: setup-test tools ## Run every test against real servers
	@scripts/test.sh

crds: setup-build ## Write crds/recordings.yaml again from the types
	cargo run --quiet --release -p recording-controller -- crds >target/recordings.yaml
	mv target/recordings.yaml crds/recordings.yaml

lint: setup-build ## Formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings

clean: ## Remove everything that was built, the servers too
	rm -rf target
