# wavestill from its wheel, on the CPU.
#
#   docker build -t wavestill .
#   docker run --rm -v "$PWD:/work" wavestill synth voice recording.wav -o copy.wav

FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN pip wheel --no-cache-dir --no-deps -w /wheels /source

FROM python:3.12-slim
ARG EXTRAS=export
# libgomp for PyTorch; libsndfile comes with soundfile's wheel
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /tmp/
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir -c /tmp/constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu \
    "wavestill[$EXTRAS] @ file://$(ls /wheels/*.whl)"
RUN useradd --create-home wavestill && mkdir /work && chown wavestill /work
USER wavestill
WORKDIR /work
ENTRYPOINT ["wavestill"]
CMD ["--help"]
