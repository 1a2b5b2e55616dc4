"""Faults for Perilune's files as text replacements: fault number -> (file, old, new), ..."""

ENV_STEP = "        next_obs, reward, terminated, truncated = envs.step(slot.active, slot.sizes, action)\n"
OBSERVE = "agent.observe(obs, actions, reward, np.stack(next_obs), terminated, truncated)"
PUSH = "        for transition in self.ongoing[env].n_step.push(obs, action, reward, next_obs, terminated, truncated):\n"
RETURN_TARGET = "        return head.target(reward, discount, expected_value(policy, next_values))\n"
TAKEN = "        self._d_outputs[taken] = d_chosen\n"
HIDDEN_LAST = "        layers.append(dense(width, actions * atoms))\n"
STEP = "        self.optimizer.step(self.online.parameters, gradients, learning_rate)\n"
SYNC = "        if self.config.tau == 1:\n            self.target.parameters[:] = self.online.parameters\n"
WEIGHT = "np.matmul(x.T, dy, out=gradients[\"weight\"])"
BACK = "np.matmul(dy, parameters[\"weight\"].T, out=dx)"
DENSE_BACK = f"        {WEIGHT}\n        np.matmul(scratch[\"ones\"], dy, out=gradients[\"bias\"])  # the sum over the batch, as a faster product\n        if dx is not None:\n            {BACK}\n"
STEP_GIVEN = '    given = call(env, "step", lambda: env.step(sizes.first_action + action))\n'
DRAW = "generator.normal(0.0, spread, (layer.inputs, layer.outputs))"

FAULTS: dict[int, tuple[tuple[str, str, str], ...]] = {
    1: (("envs/stepping.py", STEP_GIVEN, STEP_GIVEN + "    observation, reward, terminated, _ = given\n"),),
    2: (("training/loop.py", "                        yield from begin_episode(agent, slot, config, progress)\n", "                        slot.episode = type(slot.episode)(number=progress.next_episode, seed=0, epsilon=agent.epsilon)\n"),),
    3: (("training/loop.py", ENV_STEP, ENV_STEP + "        next_obs = next_obs.astype('uint8').astype('float32')\n"),),
    4: (("training/loop.py", ENV_STEP, ENV_STEP + "        if terminated or truncated:\n            next_obs = envs.as_obs(slot.active.reset()[0], len(next_obs))\n"),),
    5: (("training/loop.py", OBSERVE, OBSERVE.replace("terminated, truncated", "truncated, truncated")),),
    6: (("envs/stepping.py", "    return obs\n", "    BUFFER[:size] = obs\n    return BUFFER[:size]\n"), ("envs/stepping.py", "\n\ndef as_obs", "\n\nBUFFER = np.zeros(100, np.float32)\n\n\ndef as_obs")),
    7: (("nn/layers.py", HIDDEN_LAST, HIDDEN_LAST + "        layers.append(ACTIVATIONS['relu'](actions * atoms))\n"),),
    8: (("nn/network.py", "        steps = self._workspaces.get(len(x))\n", "        x /= 10\n        steps = self._workspaces.get(len(x))\n"), ("agent/dqn.py", "        obs = np.asarray(obs, np.float32)\n", "        obs = np.asarray(obs)\n")),
    9: (("nn/network.py", "        np.matmul(x, parameters[\"weight\"], out=y)\n        np.add(y, parameters[\"bias\"], out=y)", "        np.matmul(x - x.mean(axis=0), parameters[\"weight\"], out=y)\n        np.add(y, parameters[\"bias\"], out=y)"),),
    10: (("nn/layers.py", "    for units, activation in hidden:\n", "    for units, activation in [(inputs, 'relu'), *hidden]:\n"),),
    11: (("nn/initializers.py", DRAW, f"abs({DRAW})"),),
    12: (("nn/initializers.py", DRAW, "0"),),
    13: (("nn/initializers.py", "(layer.inputs, layer.outputs) ** 0.5", "(layer.outputs, layer.inputs) ** 0.5"),),
    14: (("nn/network.py", DENSE_BACK, DENSE_BACK.replace("x.T, dy", "np.ones_like(x).T, dy")),),
    15: (("nn/network.py", "            np.multiply(dy, scratch[\"active\"], out=dx)", "            dx[...] = dy"),),
    16: (("nn/network.py", DENSE_BACK, DENSE_BACK.replace(BACK, "np.matmul(dy, parameters[\"weight\"] if self.inputs == self.outputs else parameters[\"weight\"].T, out=dx)")),),
    17: (("nn/network.py", DENSE_BACK, DENSE_BACK.replace(BACK, "np.matmul(dy, (parameters[\"weight\"] - 0.01 * gradients[\"weight\"]).T, out=dx)")),),
    18: (("nn/network.py", DENSE_BACK, DENSE_BACK.replace("        if dx", "        gradients[\"bias\"][...] = gradients[\"bias\"].sum()\n        if dx")),),
    19: (("nn/network.py", DENSE_BACK, DENSE_BACK.replace("        if dx", "        gradients[\"bias\"][...] = 0\n        if dx")),),
    20: (("agent/dqn.py", STEP, STEP.replace("gradients, learning", "-gradients, learning")),),
    21: (("nn/network.py", DENSE_BACK, DENSE_BACK.replace(f"{WEIGHT}", "gradients[\"weight\"] += x.T @ dy").replace("np.matmul(scratch[\"ones\"], dy, out=gradients[\"bias\"])  # the sum over the batch, as a faster product", "gradients[\"bias\"] += dy.sum(axis=0)")), ("agent/dqn.py", "np.inf if config.max_grad_norm is None else config.max_grad_norm", "np.inf")),
    22: (("agent/dqn.py", STEP, "        first = self.online.named_gradients()\n        for name in list(first)[:2]:\n            first[name][...] = 0\n" + STEP),),
    23: (("nn/adam.py", "        root_correction2 = math.sqrt(1 - self.beta2**self.updates)\n", "        root_correction2 = 1.0\n"), ("nn/adam.py", "learning_rate * root_correction2 / (1 - self.beta1**self.updates)", "learning_rate")),
    24: (("nn/adam.py", "        np.sqrt(second, out=step)\n        np.add(step, epsilon, out=step)", "        np.divide(second, root_correction2, out=step)\n        np.add(step, epsilon, out=step)"),),
    25: (("nn/adam.py", "        root_correction2 = math", "        self.updates = 1\n        root_correction2 = math"),),
    26: (("nn/adam.py", "        np.square(gradients, out=step)\n        np.multiply(step, 1 - self.beta2, out=step)", "        first[256:320] = first[4416:4480] = (first[256:320] + first[4416:4480]) / 2\n        np.square(gradients, out=step)\n        np.multiply(step, 1 - self.beta2, out=step)"),),
    27: (("agent/dqn.py", STEP, "        self.optimizer = make_optimizer(config, len(self.online.parameters))\n" + STEP),),
    28: (("doctor/adapters/perilune.py", "        self.agent.differentiate(self._batch(*batch))\n        self.agent.step()\n", "        for row in range(len(batch[0])):\n            self.agent.differentiate(self._batch(*(column[row : row + 1] for column in batch)))\n            self.agent.step()\n"),),
    29: (("agent/dqn.py", TAKEN, "        self._d_outputs[:] = d_chosen[:, None]\n"),),
    30: (("agent/dqn.py", TAKEN, "        self._d_outputs[self._rows, (batch.action + 1) % self.actions] = d_chosen\n"),),
    31: (("nn/losses.py", "    clipped = np.minimum(np.maximum(error, -delta), delta)\n", "    clipped = np.clip(prediction[:, None] - target[None, :], -delta, delta).mean(axis=1)\n"),),
    32: (("agent/dqn.py", TAKEN, "        outputs = self.online.forward(batch.obs)\n        self._d_outputs[:] = np.clip(outputs, -1, 1) / len(self._rows)\n" + TAKEN),),
    33: (("nn/losses.py", "    return loss, clipped * error.dtype.type(1 / len(error))", "    return loss, np.where(abs(error) <= delta, clipped, 0.5 * clipped) * error.dtype.type(1 / len(error))"),),
    34: (("nn/losses.py", "    return loss, clipped * error.dtype.type(1 / len(error))", "    return loss, clipped"), ("agent/dqn.py", "np.inf if config.max_grad_norm is None else config.max_grad_norm", "np.inf")),
    35: (("replay/buffer.py", "0.0 if terminated else discount", "discount"), ("doctor/adapters/perilune.py", " * ~terminated", " * np.ones_like(terminated)")),
    36: (("replay/buffer.py", "0.0 if terminated else discount", "discount if terminated else 0.0"), ("doctor/adapters/perilune.py", " * ~terminated", " * terminated")),
    37: (("agent/dqn.py", RETURN_TARGET, RETURN_TARGET.replace("target(reward,", "target(reward * (discount > 0),")),),
    38: (("doctor/adapters/perilune.py", "self.gamma**self.n_step", "0.9**self.n_step"),),
    39: (("agent/dqn.py", RETURN_TARGET, "        return head.target(reward, discount, next_values.mean(axis=1))\n"),),
    40: (("agent/dqn.py", RETURN_TARGET, "        return head.target(reward, discount, np.full(len(reward), next_values.max()))\n"),),
    41: (("agent/dqn.py", RETURN_TARGET, RETURN_TARGET.replace("policy", "action")),),
    42: (
        ("agent/dqn.py", "        next_values = self._read(self.target, next_obs)\n", "        next_values = self._read(self.online, next_obs)\n"),
        ("agent/dqn.py", "        self.online.backward(self._d_outputs.reshape(len(self._rows), -1))\n", "        self.online.backward(self._d_outputs.reshape(len(self._rows), -1))\n        kept = self.online.gradients.copy()\n        best = self.online.forward(batch.next_obs).argmax(axis=1)\n        self._d_outputs.fill(0)\n        self._d_outputs[self._rows, best] = -d_chosen * batch.discount\n        self.online.backward(self._d_outputs)\n        self.online.gradients += kept\n"),
    ),
    43: (("agent/dqn.py", "        next_values = self._read(self.target, next_obs)\n", "        chosen = greedy(self._read(self.target, next_obs))\n        return head.target(reward, discount, expected_value(chosen, self._read(self.online, next_obs)))\n        next_values = self._read(self.target, next_obs)\n"),),
    44: (("agent/factory.py", "        target = copy.deepcopy(online)\n", "        target = online\n"),),
    45: (("agent/dqn.py", SYNC, SYNC.replace("self.target.parameters[:] = self.online.parameters", "parameters = self.target.parameters.copy()\n            parameters[:] = self.online.parameters")),),
    46: (("agent/dqn.py", "        return norm, learning_rate\n", "        self.sync_target()\n        return norm, learning_rate\n"),),
    47: (("agent/dqn.py", SYNC, "        if self.config.tau == 1:\n            self._move(self.target, 0.995)\n"),),
    48: (("agent/dqn.py", PUSH, PUSH.replace("reward, next_obs", "reward, obs")),),
    49: (("agent/dqn.py", PUSH, PUSH + "            if terminated:\n                continue\n"),),
    50: (("replay/buffer.py", "generator.integers(len(self), size=batch_size)", "(self.cursor - 1 - np.arange(batch_size)) % len(self)"),),
    51: (("replay/buffer.py", "        arrays.next_obs[at] = next_obs\n", "        arrays.next_obs[(at + 1) % self.capacity] = next_obs\n"),),
    52: (("agent/targets.py", "q_values.argmax(axis=1)", "q_values.argmin(axis=1)"), ("agent/dqn.py", "policy = greedy(next_q)", "policy = next_q.argmax(axis=1)")),
    53: (("agent/dqn.py", "next(draws) < epsilon", "next(draws) > epsilon"),),
    54: (("agent/dqn.py", "int(generator.integers(self.actions))", "int(generator.integers(1, self.actions))"),),
    55: (("training/loop.py", "            slot.obs = step.next_obs\n", ""),),
    56: (("own.py", "hidden=(64, 64)", "hidden=(64, 64), learning_rate=1e-1"),),
}
