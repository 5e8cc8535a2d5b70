"""Build of odmt_fast: packages are declared here, the extension is added by csrc."""

from setuptools import find_packages, setup

kernels = ["odmt_fast.kernels"] + [f"odmt_fast.kernels.{name}" for name in find_packages("kernels")]
setup(
    packages=find_packages(include=["odmt_fast", "odmt_fast.*"]) + kernels,
    package_dir={"odmt_fast.kernels": "kernels"},
)
