# syntax=docker/dockerfile:1
# docker build -t faircopy .          (docs/deploy.md says how to run it)

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked && strip target/release/faircopy

FROM debian:bookworm-slim
# The authorities behind https://api.clerk.com; the newest ones, and so no version is named.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin faircopy \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data
COPY --from=build /src/target/release/faircopy /usr/local/bin/faircopy
COPY ops/docker/healthy /usr/local/bin/healthy
USER 10001:10001
# SQLite's file. With PostgreSQL nothing is written at all, and the volume stays empty.
VOLUME /data
WORKDIR /data
ENV FAIRCOPY_LISTEN=0.0.0.0:8787 FAIRCOPY_LOG_FORMAT=json DATABASE_URL=sqlite:///data/faircopy.db
EXPOSE 8787
# Alive, not ready: a database that is away is not mended by another container.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["healthy"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["faircopy"]
CMD ["serve"]
