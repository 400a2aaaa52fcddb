# Two commands do everything on a fresh machine: `make demo` and `make test`. The rest is for every minute.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
PREFIX ?= /usr/local
# The versions of Apache Kafka that the tests start: the newest, and the oldest that is supported.
KAFKA_NEWEST := 4.1.0
KAFKA_OLDEST := 3.9.1
KAFKA_VERSIONS := $(KAFKA_NEWEST) $(KAFKA_OLDEST)
KAFKA_DIR := $(CURDIR)/target/kafka
KAFKA_STAMPS := $(KAFKA_VERSIONS:%=$(KAFKA_DIR)/%/fetched)
CLIENTS_DIR := $(CURDIR)/target/clients
PEERS_DIR := $(CURDIR)/target/peers
PROMTOOL := $(CURDIR)/target/tools/promtool
CARGO_DEB := $(CURDIR)/target/tools/bin/cargo-deb
CARGO_DEB_VERSION := 3.8.0
# How many seeded runs of the simulation each command makes.
SIM_SEEDS_TEST := 5000
SIM_SEEDS_QUICK := 300

# Every test target but those that need a broker.
TEST_TARGETS := $(patsubst tests/%/main.rs,%,$(wildcard tests/*/main.rs)) $(patsubst tests/%.rs,%,$(wildcard tests/*.rs))
QUICK := --lib --bins $(patsubst %,--test %,$(filter-out real latency clients,$(sort $(TEST_TARGETS))))

# What tests on a real Kafka look for.
TEST_ENVIRONMENT := POSTRIDER_KAFKA_LIBS=$(KAFKA_DIR) POSTRIDER_CLIENTS=$(CLIENTS_DIR) POSTRIDER_PROMTOOL=$(PROMTOOL)

# $(call stage,NAME,COMMAND): runs one stage under a title, then says how long it took.
TIMES := target/stages.txt
define stage
@printf '\n=== %s\n' '$(1)'; begin=$$(date +%s); $(2); status=$$?; took=$$(( $$(date +%s) - begin )); \
 printf '%s %ss\n' '$(1)' $$took >> $(TIMES); \
 if [ $$status -ne 0 ]; then printf '=== %s: FAILED after %s s\n' '$(1)' $$took >&2; exit $$status; fi; \
 printf '=== %s: ok, %s s\n' '$(1)' $$took
endef
define begin_stages
@mkdir -p target/tmp; : > $(TIMES); rm -rf target/tmp/ground
endef
define end_stages
@printf '\n%s: %s\n' '$(1)' "$$(paste -s -d, $(TIMES) | sed 's/,/, /g')"
endef

.PHONY: help
help: ## this list
	@printf 'Postrider: Kafka topics to webhooks, nothing lost silently.\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf '\nThe first build compiles librdkafka and OpenSSL: some minutes, once.\n'

.PHONY: demo
demo: tools ## see it work: two webhooks, one of them in trouble
	@[ -x target/debug/postrider ] || echo 'The first build takes some minutes; from then on it is seconds.'
	@$(CARGO) build --locked
	@$(CARGO) run --quiet --locked -- demo

.PHONY: test
test: kafka clients peers $(PROMTOOL) ## format, clippy and all tests, on a real Apache Kafka
	$(call begin_stages)
	$(call stage,format,$(CARGO) fmt --check)
	$(call stage,clippy,$(CARGO) clippy --quiet --locked --all-targets -- -D warnings)
	$(call stage,build,$(CARGO) test --quiet --locked --no-run)
	$(call stage,tests,$(TEST_ENVIRONMENT) POSTRIDER_SIM_SEEDS=$(SIM_SEEDS_TEST) $(CARGO) test --locked --no-fail-fast)
	$(call end_stages,make test)

.PHONY: test-oldest
test-oldest: kafka peers $(PROMTOOL) ## the tests on a real Apache Kafka, on the oldest that is supported
	$(call begin_stages)
	$(call stage,tests on Kafka $(KAFKA_OLDEST),$(TEST_ENVIRONMENT) POSTRIDER_KAFKA_VERSION=$(KAFKA_OLDEST) $(CARGO) test --locked --no-fail-fast --test real)
	$(call end_stages,make test-oldest)

.PHONY: test-quick
test-quick: tools ## under a minute: no real broker, few simulated seeds
	$(call begin_stages)
	$(call stage,build,$(CARGO) test --quiet --locked --no-run $(QUICK))
	$(call stage,tests,POSTRIDER_SIM_SEEDS=$(SIM_SEEDS_QUICK) $(CARGO) test --quiet --locked --no-fail-fast $(QUICK))
	$(call end_stages,make test-quick)
	@printf '%s\n' \
	  'left out (make test has it all):' \
	  '  format and clippy' \
	  '  tests/clients: the Python clients of the first users' \
	  '  tests/real: everything on a real Apache Kafka (kill -9, freezes, restarts, two relays)' \
	  '  the simulation beyond $(SIM_SEEDS_QUICK) seeds (make test: $(SIM_SEEDS_TEST); make simulate SEEDS=N)'

.PHONY: simulate
simulate: tools ## only the simulation: SEEDS=20000, or SEED=17 again
	@POSTRIDER_SIM_SEEDS=$(or $(SEEDS),$(SIM_SEEDS_TEST)) $(if $(SEED),POSTRIDER_SIM_SEED=$(SEED)) \
	  $(CARGO) test --quiet --locked --test simulation -- --nocapture

.PHONY: soak
soak: kafka ## kill -9 two hundred times while records sit in every state, a quarter of an hour: KILLS=200
	@$(TEST_ENVIRONMENT) POSTRIDER_KILLS=$(or $(KILLS),200) \
	  $(CARGO) test --quiet --locked --test real a_kill_in_any_state -- --nocapture

.PHONY: bench
bench: kafka build ## how fast, and what it costs: BENCH_ROUNDS=3, BENCH_BASE=an older binary to compare with
	@# Cargo builds the binary once more for the bench, with what tests add to the libraries; measured is the one that is installed.
	@mkdir -p target/bench; cp target/release/postrider target/bench/postrider
	@POSTRIDER_BINARY=$(CURDIR)/target/bench/postrider POSTRIDER_KAFKA_LIBS=$(KAFKA_DIR) \
	  $(CARGO) bench --quiet --locked --bench delivery

.PHONY: kafka
kafka: tools-test $(KAFKA_STAMPS) ## fetch the Apache Kafka that the tests start (once)

$(KAFKA_STAMPS): $(KAFKA_DIR)/%/fetched: tests/kafka/pom.xml
	@tests/kafka/fetch.sh $* $(@D)
	@touch $@

.PHONY: clients
clients: tools-test ## prepare the Python clients that the tests produce with (once)
	@tests/clients/prepare.sh $(CLIENTS_DIR)

# A language that is not on this machine is left out, and its test says so.
.PHONY: peers
peers: tools-test ## prepare the packages that verify signatures in the tests (once)
	@for language in python node; do \
	  tests/peers/prepare.sh $$language $(PEERS_DIR)/standardwebhooks-$$language || [ $$? = 77 ]; \
	done

$(PROMTOOL): tests/promtool.sh | tools-test
	@tests/promtool.sh $@

.PHONY: build
build: tools ## the optimised binary: target/release/postrider
	@$(CARGO) build --release --locked

.PHONY: install
install: build ## put the binary into /usr/local/bin (or PREFIX=...)
	install -D -m 0755 target/release/postrider $(DESTDIR)$(PREFIX)/bin/postrider

.PHONY: package
package: tools-package build $(CARGO_DEB) ## the Debian package: target/package/postrider_*.deb
	@CARGO_DEB=$(CARGO_DEB) packaging/deb.sh target/release/postrider

.PHONY: test-system
test-system: able kafka tools-package $(CARGO_DEB) ## the package in a booted systemd, on a Debian 12 of its own: root on Debian only
	$(call begin_stages)
	@# Beside a test the libraries have the features they have in `make test`: after it, nothing is compiled again.
	$(call stage,build,$(CARGO) build --quiet --locked --bin postrider --test it)
	$(call stage,package,CARGO_DEB=$(CARGO_DEB) packaging/deb.sh target/debug/postrider)
	$(call stage,system,tests/system/unit.sh)
	$(call end_stages,make test-system)

# Before anything is fetched for nothing.
.PHONY: able
able:
	@tests/system/unit.sh --able

$(CARGO_DEB): | tools
	@printf 'cargo-deb %s, once: some minutes\n' $(CARGO_DEB_VERSION)
	@$(CARGO) install --quiet --locked --debug --root $(CURDIR)/target/tools --target-dir $(CURDIR)/target/tools/build --version $(CARGO_DEB_VERSION) cargo-deb
	@rm -rf $(CURDIR)/target/tools/build

.PHONY: tools tools-test tools-package
tools:
	@tests/tools.sh build
tools-test:
	@tests/tools.sh test
tools-package:
	@tests/tools.sh package
