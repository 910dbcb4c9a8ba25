# The node of an agent in a container. Needs nothing but /data: no root, no shell, no package manager, no other
# folder that can be written to.
#
# Its context is made by packaging/container/image.py, which also builds the image of it, without an engine:
#
#   python packaging/container/image.py --artefact wws-1.2.3-linux-x86_64.tar.gz --out image.tar
#   python packaging/container/image.py --artefact wws-1.2.3-linux-x86_64.tar.gz --context context
#   docker build --file Dockerfile context

FROM scratch
# The C library, the certificate authorities, and files that name the user.
COPY root/ /
# What the artefact of this release has, whole.
COPY wws/ /opt/wws/
COPY --chown=65532:65532 data/ /data/

# WWS_AGENT_NAME is for whoever runs it: the node's name, claimed in the network. All that is kept is in /data.
ENV PATH=/opt/wws/bin \
    HOME=/data \
    TMPDIR=/data \
    WWS_HOME=/data \
    WWS_IDENTITY_PATH=/data/identity.key \
    WWS_NETWORK_LISTEN=/ip4/0.0.0.0/tcp/9000,/ip4/0.0.0.0/udp/9000/quic-v1
LABEL org.opencontainers.image.title=wws \
      org.opencontainers.image.description="A node of the World Wide Swarm" \
      org.opencontainers.image.licenses=Apache-2.0
WORKDIR /data
VOLUME ["/data"]
EXPOSE 9000/tcp 9000/udp
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=6s --start-period=10s --retries=3 CMD ["wws-control", "health", "--live"]
ENTRYPOINT ["wws-connector"]
