def write_report(config, overrides): raise SystemExit
