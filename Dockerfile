# DeepPrep as a BIDS App.
# CPU: docker build --build-arg PIP_EXTRA_INDEX_URL=<PyTorch's index of CPU wheels> -t deepprep .
# (without that index pip takes the default build of torch, which brings several GB of CUDA)
# GPU: docker build --build-arg CONSTRAINTS= -t deepprep .
FROM python:3.11-slim-bookworm
ARG CONSTRAINTS=constraints-cpu.txt
ARG PIP_EXTRA_INDEX_URL=
ENV NO_ET=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 \
    NUMBA_CACHE_DIR=/var/cache/deepprep/numba MPLCONFIGDIR=/var/cache/deepprep/matplotlib
WORKDIR /opt/deepprep
COPY . .
RUN pip install ${CONSTRAINTS:+--constraint "$CONSTRAINTS"} . && deepprep --version
# Any user may run the container, and write these caches.
RUN mkdir -p /var/cache/deepprep && chmod 1777 /var/cache/deepprep
ENTRYPOINT ["deepprep"]
