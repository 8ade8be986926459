# syntax=docker/dockerfile:1
# The tag names one release of Go. Whoever needs the very same compiler again pins it by digest as well, which is
# --build-arg GO_IMAGE=golang:<tag>@sha256:<digest>.
ARG GO_IMAGE=golang:1.26.8-alpine
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download && go mod verify
COPY . .
ARG TARGETOS TARGETARCH VERSION
# What is built depends on the sources, the compiler and VERSION alone: no paths (-trimpath), no build id of the linker.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -buildid=${VERSION:+ -X main.version=$VERSION}" -o /edge ./cmd/edge

# Nothing but the program: no shell, no libc, no package manager. Certificates are for rediss:// addresses. It writes no
# file, so that it can run with --read-only, and needs no capability.
FROM scratch
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="Stellara Edge" \
      org.opencontainers.image.description="A Socket.IO server whose nodes serve one audience through Redis" \
      org.opencontainers.image.source="https://github.com/stellara/edge" \
      org.opencontainers.image.documentation="https://github.com/stellara/edge/blob/main/docs/operations.md" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /edge /edge
USER 65532:65532
# In a container, clients and the load balancer come from outside it. The operators' listener stays on loopback until
# ADMIN_ADDR and ADMIN_TOKEN are given.
ENV LISTEN_ADDR=:3000
EXPOSE 3000 9464 9465
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=4s --start-period=5s --retries=3 CMD ["/edge", "-healthcheck"]
ENTRYPOINT ["/edge"]
