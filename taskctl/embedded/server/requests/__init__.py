"""What a request says beside its body: the object that its path names, and its options.

Plain data, without HTTP: no file here knows aiohttp.
"""
