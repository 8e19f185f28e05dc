# What candidates run in: the base and the few files of ours that run inside (code.tar, tagged by
# its hash). User, limits and command come with each container.
ARG BASE
FROM ${BASE}
ADD code.tar /opt/code/
STOPSIGNAL SIGKILL
