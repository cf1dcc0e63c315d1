"""The runtime's stages on an NVIDIA GPU. Importing this touches no driver: a device is opened with `Device.open`."""
