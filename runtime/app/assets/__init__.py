"""Files of the page: the canvas in HTML, CSS and JavaScript, and the example photographs."""
