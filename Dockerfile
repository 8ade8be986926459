# syntax=docker/dockerfile:1
FROM --platform=$BUILDPLATFORM golang:1.26-alpine AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS TARGETARCH VERSION
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w${VERSION:+ -X main.version=$VERSION}" -o /edge ./cmd/edge

# Nothing but the program: no shell, no libc, no package manager. Certificates are for rediss:// addresses.
FROM scratch
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
