# syntax=docker/dockerfile:1

# The full image, not -slim: it holds the C compiler, make and perl that librdkafka, OpenSSL and zlib
# are built with.
FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin watchfire \
    && cp target/release/watchfire /usr/local/bin/watchfire

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /usr/local/bin/watchfire /usr/local/bin/watchfire
COPY rules /etc/watchfire/rules
# A number, so that Kubernetes can see that it is not root. Nothing is written to disk: state is in Kafka.
USER 65532:65532
EXPOSE 8080
# SIGTERM commits, leaves the consumer groups and ends.
STOPSIGNAL SIGTERM
ENTRYPOINT ["watchfire"]
CMD ["run", "--config", "/etc/watchfire/watchfire.yml"]
