# hatdet with its exports, for a CPU:
#   docker build -t hatdet .
#   docker run --rm --shm-size 2g -v "$PWD:/work" hatdet train my_data.py --stage float
# For a GPU: docker build --build-arg TORCH_INDEX=<the package index of PyTorch's builds for your CUDA> -t hatdet .
#            docker run --gpus all ...
FROM python:3.11-slim

ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

WORKDIR /opt/hatdet
COPY constraints.txt setup.py pyproject.toml MANIFEST.in README.md LICENSE ./
COPY configs ./configs
COPY hatdet ./hatdet
RUN if [ -n "$TORCH_INDEX" ]; then pip install --index-url "$TORCH_INDEX" torch; fi \
    && pip install -c constraints.txt ".[data,export,fast,vela]" \
    && hatdet env

# Who runs it owns what it writes: docker run --user "$(id -u):$(id -g)" ...
WORKDIR /work
ENV HOME=/tmp
ENTRYPOINT ["hatdet"]
CMD ["--help"]
