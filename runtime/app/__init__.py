"""The web page: images to open and objects to click on. All but `page` and `serve` works without Gradio."""
