# Python, numpy, scipy and g++ of the machine that builds it: rootfs.tar is packed from what is
# installed there (verifiers/docker_rootfs.py). Nothing is pulled from a registry; the image's tag is
# a hash of the versions of everything in it.
FROM scratch
ADD rootfs.tar /
