# CUDA comes with the locked torch; the host brings NVIDIA's driver and container toolkit.
# The full image has what compiling kernels needs: gcc, Python's headers, git, make.
FROM python:3.12-bookworm
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility PIP_NO_CACHE_DIR=1
WORKDIR /ramengpt
COPY . .
RUN make setup
ENV PATH=/ramengpt/.venv/bin:$PATH
CMD ["make", "repro"]
