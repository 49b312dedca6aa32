# The commands of the house. `make demo` and `make test` install what they lack, saying what and why first.
SHELL := /bin/bash
.PHONY: linker demo clean-demo test bench bench-gateway contracts wasm banned fmt

# The truth. Programs first, because the season's test starts them.
test: linker contracts
	@[ -d ../shared/data ] || echo "SKIPPED: no ../shared/data: every test against other people's vectors"
	cargo build --workspace --bins --locked
	@if command -v cargo-nextest >/dev/null; then run="cargo nextest run --workspace --locked --no-tests=fail --no-fail-fast"; \
	else run="cargo test --workspace --locked --no-fail-fast"; fi; tests/with-postgres $$run

# Every speed that we speak of, beside this machine's own limits; BENCH="reading form" measures those alone.
bench:
	cargo build --release --locked --bins
	target/release/suyuan-bench $(BENCH)

# Packs through gateway, server and Postgres, beside the verification, the COPY and the broker alone; wants mosquitto and 12,000
# open files (ulimit -n). SMALL=1 tries it out in a fraction of the time; its figures say nothing.
bench-gateway:
	$(MAKE) bench BENCH="gateway $(if $(SMALL),--small)"

# A Rust toolchain brings no C linker of its own, and ring brings C.
linker:
	@command -v cc >/dev/null || { echo "missing: gcc and libc6-dev (Rust links with them)"; \
	  if [ "$$(id -u)" = 0 ]; then s=; else s="sudo -n"; fi; \
	  $$s apt-get update -q && $$s apt-get install -y -q --no-install-recommends gcc libc6-dev; }

# The contract's own tests, and that the committed artefact is what its source compiles to.
contracts:
	@command -v npm >/dev/null || { echo "missing: npm (it brings the Solidity compiler and forge)"; \
	  if [ "$$(id -u)" = 0 ]; then s=; else s="sudo -n"; fi; \
	  $$s apt-get update -q && $$s apt-get install -y -q --no-install-recommends npm; }
	cd contracts && npm ci --no-audit --no-fund --loglevel=error && node_modules/.bin/forge test && node artefact.mjs

# The module that a person's browser signs with: again after a change of what a record is made of.
wasm:
	browser/build static/trace.wasm

# No C where it can be helped: these may not enter the tree by any door.
banned:
	@found=$$(cargo tree --workspace --locked -e normal,build,dev --prefix none 2>/dev/null | \
	  grep -E '^(openssl|openssl-sys|native-tls|aws-lc-rs|aws-lc-sys|pq-sys|cmake) ' | sort -u); \
	if [ -n "$$found" ]; then echo "banned in the dependency tree:"; echo "$$found"; exit 1; fi; echo "no banned C in the tree"

fmt:
	cargo fmt --all

# The season on this machine, until Ctrl-C. ARGS=--exit plays, confirms and stops.
demo: linker
	cargo build --release --locked --bin suyuan --bin suyuan-gateway --bin suyuan-auditor --bin suyuan-demo
	target/release/suyuan-demo $(ARGS)

# A clone that Postgres' user cannot reach has its cluster in /var/tmp: .data/postgres.at names it.
clean-demo:
	@at=$$(cat .data/postgres.at 2>/dev/null); case "$$at" in /var/tmp/suyuan-*) rm -rf "$$at";; esac
	rm -rf .data
