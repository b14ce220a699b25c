# DeepPrep as a BIDS App. CPU by default; for NVIDIA GPUs build with --build-arg CONSTRAINTS= .
FROM python:3.11-slim-bookworm
ARG CONSTRAINTS=constraints-cpu.txt
ENV NO_ET=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 \
    NUMBA_CACHE_DIR=/tmp/numba MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /opt/deepprep
COPY . .
RUN if [ -n "$CONSTRAINTS" ]; then \
        pip install --extra-index-url https://download.pytorch.org/whl/cpu -c "$CONSTRAINTS" . ; \
    else pip install . ; fi \
    && deepprep --version
ENTRYPOINT ["deepprep"]
