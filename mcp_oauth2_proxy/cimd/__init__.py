"""Client ID metadata documents: strangers name a URL, this process fetches it, and is not turned inwards."""
