# `make demo` runs the main job, `make test` runs every check; both set up what is missing and say so first. `make
# bench` times training steps, products and curvature. `make gpu` tells all of this machine's adapter in at most 10
# minutes.

LOWLAND := target/release/lowland

.PHONY: demo test setup setup-test build bench results page gpu fuzz peers clean

demo: setup build
	$(LOWLAND) demo

test: setup-test
	sh scripts/test.sh

build:
	cargo build --release --locked

# A Vulkan driver, where no adapter is found (Debian and Ubuntu).
setup:
	sh scripts/setup.sh

# The same with what only tests need: SPIR-V and GLSL checkers, SwiftShader, Mesa's OpenGL.
setup-test:
	sh scripts/setup.sh test

# Training steps, products and how cost grows, beside PyTorch's; `make peers` first makes the environment that PyTorch
# runs in.
bench: setup build
	$(LOWLAND) doctor
	cargo bench --locked --bench step -- --json target/bench.json
	$(LOWLAND) train configs/quickstart.toml output=target/bench/quickstart
	cargo bench --locked --bench curvature -- --shape 128/4/16/256 --shape 256/4/32/64 \
		--trace target/bench/quickstart/model=configs/quickstart.toml --json target/bench-curvature.json

# The experiments of docs/experiments.md as far as they are not there yet (many hours), their pages and figures, and the
# tables of docs/results.md. RESULTS chooses among them.
RESULTS ?= reread-size-hmm reread-size-lstm reread-steps-hmm reread-steps-lstm reread-algorithm-hmm \
	reread-algorithm-lstm reread-theory reread-causal regauge-hmm regauge-tuned-hmm matched-hmm matched-wide-hmm \
	excess-law momentum-collapse dial-hmm schedules-hmm rivals

results: setup build
	for s in $(RESULTS); do $(LOWLAND) sweep run configs/mini/$$s.toml && $(LOWLAND) report runs/mini/$$s || exit 1; done
	python3 scripts/results.py $(RESULTS:%=runs/mini/%)

# docs/results.md and its figures again from the tables that are kept in docs/tables, without a run.
page: build
	for t in docs/tables/*; do $(LOWLAND) report $$t || exit 1; done
	python3 scripts/results.py --page docs/results.md docs/tables

# Correctness and rates of the best adapter, for docs/performance-adapters.md or an issue.
gpu: build
	$(LOWLAND) selftest --report runs/gpu

# Every reader under libFuzzer, a minute each.
fuzz:
	sh scripts/fuzz.sh

peers:
	python3 -m venv target/peers
	target/peers/bin/pip install --quiet torch transformers

clean:
	cargo clean
