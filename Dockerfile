# The image: Debian, the one binary, and the CA certificates that https destinations are checked with.
#
#   docker build -t postrider --build-arg POSTRIDER_REVISION="$(git rev-parse --short HEAD)" .
#   docker run --rm --read-only -v "$PWD/postrider.toml:/etc/postrider/postrider.toml:ro" postrider
#
# Stop it with a time-out that leaves room for the drain (limits.drain, 30 s by default): docker stop -t 45. The metrics and probes
# listen on loopback unless admin.listen says otherwise, so nothing is exposed here.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential ca-certificates \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
# The libraries first, with an empty program around them: this layer, some minutes of it, is kept until Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
 && echo 'fn main() {}' > src/main.rs \
 && touch src/lib.rs \
 && cargo build --release --locked \
 && rm -r src
COPY src src
# Shown in the metric postrider_build_info.
ARG POSTRIDER_REVISION=unknown
# What was just copied may be older than the empty program, and cargo goes by the time. The line tables stay out of the image.
RUN touch src/main.rs src/lib.rs \
 && cargo build --release --locked \
 && objcopy --strip-debug target/release/postrider /postrider

FROM debian:12-slim
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /postrider /usr/bin/postrider
# The operators' socket is all that it writes. As a volume the folder can be written to even where the root is read-only.
RUN install -d -m 0750 -o 65532 -g 65532 /run/postrider
VOLUME /run/postrider
# A number, so that an orchestrator can see that it is not root.
USER 65532:65532
# Asks the daemon by its socket: well, when everything turns and Kafka answers.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["/usr/bin/postrider", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/postrider"]
CMD ["run"]
