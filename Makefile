# The commands of the house.
SHELL := /bin/bash
.PHONY: test banned fmt

test:
	@if command -v cargo-nextest >/dev/null; then cargo nextest run --workspace --locked --no-tests=fail; \
	else cargo test --workspace --locked; fi

# No C where it can be helped: these may not enter the tree by any door.
banned:
	@found=$$(cargo tree --workspace --locked -e normal,build,dev --prefix none 2>/dev/null | \
	  grep -E '^(openssl|openssl-sys|native-tls|aws-lc-rs|aws-lc-sys|pq-sys|cmake) ' | sort -u); \
	if [ -n "$$found" ]; then echo "banned in the dependency tree:"; echo "$$found"; exit 1; fi; echo "no banned C in the tree"

fmt:
	cargo fmt --all
