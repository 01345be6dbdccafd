def ensure_demo(folder): raise NotImplementedError
