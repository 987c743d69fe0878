"""The operator: SandboxPools become pods, and pods that can serve become idle in the registry."""
