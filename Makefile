# The commands that people and .ci/run use. `cargo build` and `cargo test` need nothing but a Rust toolchain.

.PHONY: help build test lint buf released crds demo kubernetes conformance conformance-full properties sim durability kill

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 20

build: ## both binaries
	cargo build --locked

test: ## everything that needs nothing installed
	cargo test --locked

lint: ## formatting, clippy and documentation, warnings denied
	cargo fmt --all -- --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --locked --no-deps --document-private-items

buf: ## the contract's form, and that it breaks nothing that was released
	PATH=$$(tests/kubernetes/build.sh buf):$$PATH && buf lint && buf breaking --against proto/released.binpb

released: ## keep the contract as it is now as the released one; a part of releasing, and of nothing else
	PATH=$$(tests/kubernetes/build.sh buf):$$PATH && buf build --exclude-source-info --as-file-descriptor-set -o proto/released.binpb

crds: ## write deploy/crds from the types
	UPDATE_CRDS=1 cargo test --locked --lib crd::

demo: ## a canary from v1 to v2 through RPCs, on the embedded cluster
	cargo run --locked -- dev --demo --once

kubernetes: ## build etcd and kube-apiserver from Go modules, outside the checkout; prints KUBEBUILDER_ASSETS
	@tests/kubernetes/build.sh kubernetes

conformance: ## the conformance scenarios, on the embedded cluster and on a real API server
	KUBEBUILDER_ASSETS=$$(tests/kubernetes/build.sh kubernetes) cargo test --locked --test conformance

conformance-full: ## the same with replicas 1, 2, 3, 4, 5 and 10
	ROLLOUTD_REPLICAS=1,2,3,4,5,10 $(MAKE) conformance

properties: ## the plan's properties with many cases; CASES=n
	PROPTEST_CASES=$(or $(CASES),20000) cargo test --locked --lib plan::tests::properties

sim: ## simulated programs with faults, optimized; SEEDS=n from FIRST=k; a failure prints the line that replays it
	ROLLOUTD_SIM_SEEDS=$(or $(SEEDS),20000) ROLLOUTD_SIM_FIRST=$(or $(FIRST),1) cargo test --locked --release --test sim programs -- --nocapture

durability: ## kill a cluster on disk at many moments; SEEDS=n
	ROLLOUTD_SEEDS=$(or $(SEEDS),100) cargo test --locked --test binary durability -- --nocapture
	PROPTEST_CASES=2000 cargo test --locked --lib apiserver::durable

kill: ## kill -9 of control planes at their writes, and of the API server between them; SEEDS=n
	ROLLOUTD_KILL_SEEDS=$(or $(SEEDS),50) cargo test --locked --test binary killed -- --nocapture --test-threads 1
