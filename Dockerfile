# One image for machines with and without a GPU. Torch from PyPI brings CUDA's libraries; the host brings the driver.
#
#   make image                                                      (docker or podman)
#   docker run --rm -v "$PWD:/work" lst quickstart                  on the CPU
#   docker run --rm --gpus all --ipc=host -v "$PWD:/work" lst train …
#
# A smaller image for CPUs alone takes torch and torchaudio from another index, both from the same:
#   make image IMAGE_ARGS='--build-arg TORCH_INDEX=URL_OF_THE_INDEX_OF_CPU_WHEELS'
ARG PYTHON_VERSION=3.12

# The compiler of the CPU kernels stays behind in this stage.
FROM python:${PYTHON_VERSION}-slim AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY lst lst
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON_VERSION}-slim
# An index of wheels of torch and torchaudio; without, PyPI.
ARG TORCH_INDEX=
# Extras of the package, such as [ray,s3].
ARG EXTRAS=
# OpenMP for the kernels, and two voices for synthesised speech.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 flite espeak-ng \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /wheels /wheels
RUN if [ -n "$TORCH_INDEX" ]; then \
        pip install --no-cache-dir --index-url "$TORCH_INDEX" 'torch>=2.11,<2.15' 'torchaudio>=2.11,<2.12'; \
    fi \
    && wheel=$(ls /wheels/*.whl) \
    && pip install --no-cache-dir "$wheel$EXTRAS" \
    && rm -rf /wheels
# Who runs it need not be root: `docker run --user "$(id -u):$(id -g)"` writes files of one's own.
ENV HOME=/tmp PYTHONUNBUFFERED=1
WORKDIR /work
ENTRYPOINT ["lst"]
CMD ["--help"]
