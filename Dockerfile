# The image: one static binary that knows every time zone, the authorities that
# sign the push APIs' certificates, and a directory for the account it runs as.
#
#   docker build -t scheduler .
#
# Where no registry answers, BUILD may name any image with a shell, Go and a
# certificate bundle.
ARG BUILD=golang:1.26
FROM ${BUILD} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags='-s -w' -o /image/scheduler ./cmd/scheduler \
 && mkdir -p /image/etc/ssl/certs /image/var/lib/scheduler \
 && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/

FROM scratch
COPY --from=build /image/scheduler /scheduler
COPY --from=build /image/etc /etc
# What a daemon remembers of its database, and the sandbox's keys and journal.
COPY --from=build --chown=65532:65532 /image/var/lib/scheduler /var/lib/scheduler
USER 65532:65532
ENV SCHEDULER_DATA_DIR=/var/lib/scheduler
VOLUME /var/lib/scheduler
# The admin listener; it is on loopback until SCHEDULER_ADMIN_LISTEN and a token say otherwise.
EXPOSE 8080
ENTRYPOINT ["/scheduler"]
CMD ["serve"]
