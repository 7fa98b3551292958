# Two commands: `make demo` runs the main job, `make test` runs every check. Both set up what is missing and say so first.

LOWLAND := target/release/lowland

.PHONY: demo test setup setup-test build clean

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

clean:
	cargo clean
