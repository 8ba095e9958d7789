"""Models: backbones, PEFT methods, pooling, vision towers, cross-encoders and checkpoints."""
