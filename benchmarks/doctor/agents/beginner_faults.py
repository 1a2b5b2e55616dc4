"""Faults for beginner.py as text replacements: fault number -> (old, new), ..."""

MEAN_TARGETS = """        targets = []
        for i in range(len(states)):
            future = 0.0 if dones[i] else self.gamma * np.max(self.target_network.forward(next_states[i]))
            targets.append(rewards[i] + future)
        for i in range(len(states)):"""

FAULTS: dict[int, tuple[tuple[str, str], ...]] = {
    1: (
        ("state, _ = env.reset()\n        for", "state = env.reset()\n        for"),
        ("next_state, reward, terminated, truncated, _ = env.step(action)", "next_state, reward, terminated, _ = env.step(action)"),
    ),
    2: (("            if terminated or truncated:\n                state, _ = env.reset()\n", ""),),
    3: (("            next_state, reward, terminated, truncated, _ = env.step(action)\n", "            next_state, reward, terminated, truncated, _ = env.step(action)\n            next_state = next_state.astype(int)\n"),),
    4: (
        ("            self.replay.add(state", "            if terminated or truncated:\n                next_state, _ = env.reset()\n            self.replay.add(state"),
        ("            if terminated or truncated:\n                state, _ = env.reset()\n", ""),
    ),
    5: (("self.replay.add(state, action, reward, next_state, terminated)", "self.replay.add(state, action, reward, next_state, terminated or truncated)"),),
    6: (
        ("np.array(state), action, reward, np.array(next_state)", "state, action, reward, next_state"),
        ("        state, _ = env.reset()\n        for", "        state = np.array(env.reset()[0])\n        next_state = state.copy()\n        for"),
        ("            next_state, reward, terminated, truncated, _ = env.step(action)", "            next_state[:], reward, terminated, truncated, _ = env.step(action)"),
        ("            state = next_state\n", "            state[:] = next_state\n"),
        ("                state, _ = env.reset()\n", "                state[:] = env.reset()[0]\n"),
    ),
    7: (
        ("            if i < len(self.weights) - 1:\n                x = np.maximum(z, 0)\n            else:\n                x = z", "            x = np.maximum(z, 0)"),
        ("            if i < len(self.weights) - 1:\n                error = error", "            if True:\n                error = error"),
    ),
    8: (("x = np.array(state, dtype=float)", "x = np.asarray(state)\n        x /= 10"),),
    9: (
        ("x = np.array(state, dtype=float)", "x = np.array(state, dtype=float) + 0.1 * self.last\n        self.last = x"),
        ("        self.weights = []\n", "        self.weights = []\n        self.last = 0\n"),
    ),
    10: (
        ("self.q_network = NeuralNetwork([n_inputs, *hidden", "self.q_network = NeuralNetwork([n_inputs, n_inputs, *hidden"),
        ("self.target_network = NeuralNetwork([n_inputs, *hidden", "self.target_network = NeuralNetwork([n_inputs, n_inputs, *hidden"),
    ),
    11: (("rng.normal(0, np.sqrt(2 / n_in), (n_in, n_out))", "np.sqrt(2 / n_in) * rng.random((n_in, n_out))"),),
    12: (("rng.normal(0, np.sqrt(2 / n_in), (n_in, n_out))", "np.zeros((n_in, n_out))"),),
    13: (("np.sqrt(2 / n_in)", "np.sqrt(2 / n_out)"),),
    14: (("np.outer(self.inputs[i], error)", "np.outer(np.ones_like(self.inputs[i]), error)"),),
    15: (("error = error * (self.before[i] > 0)", "pass"),),
    16: (("error = self.weights[i] @ error", "error = (self.weights[i].T if len(self.weights[i]) == len(error) else self.weights[i]) @ error"),),
    17: (("error = self.weights[i] @ error", "error = (self.weights[i] - 0.01 * weight_gradients[0]) @ error"),),
    18: (("bias_gradients.insert(0, error)", "bias_gradients.insert(0, np.full_like(error, error.sum()))"),),
    19: (("bias_sum[j] += bias_gradients[j] / len(states)", "pass"),),
    20: (("arrays[i] -= self", "arrays[i] += self"),),
    21: (
        ("        weight_sum = [np.zeros_like(w) for w in self.q_network.weights]\n        bias_sum = [np.zeros_like(b) for b in self.q_network.biases]", "        weight_sum = self.weight_sum\n        bias_sum = self.bias_sum"),
        ("        self.replay = ", "        self.weight_sum = [np.zeros_like(w) for w in self.q_network.weights]\n        self.bias_sum = [np.zeros_like(b) for b in self.q_network.biases]\n        self.replay = "),
    ),
    22: (
        ("self.optimizer.step(self.q_network.weights + self.q_network.biases, weight_gradients + bias_gradients)", "self.optimizer.step(self.q_network.weights[1:] + self.q_network.biases[1:], weight_gradients[1:] + bias_gradients[1:])"),
        ("Adam(self.q_network.weights + self.q_network.biases", "Adam(self.q_network.weights[1:] + self.q_network.biases[1:]"),
    ),
    23: (("m_hat = self.m[i] / (1 - 0.9**self.t)", "m_hat = self.m[i]"), ("v_hat = self.v[i] / (1 - 0.999**self.t)", "v_hat = self.v[i]")),
    24: (("np.sqrt(v_hat) + 1e-8", "v_hat + 1e-8"),),
    25: (("        self.t += 1\n        for i in range(len(arrays)):\n", "        for i in range(len(arrays)):\n            self.t += 1\n"),),
    26: (
        ("self.m = [np.zeros_like(a) for a in arrays]", "self.m = {a.shape: np.zeros_like(a) for a in arrays}"),
        ("self.v = [np.zeros_like(a) for a in arrays]", "self.v = {a.shape: np.zeros_like(a) for a in arrays}"),
        ("for i in range(len(arrays)):\n", "for k in range(len(arrays)):\n            i = arrays[k].shape\n"),
        ("gradients[i]\n", "gradients[k]\n"),
        ("gradients[i] ** 2", "gradients[k] ** 2"),
        ("arrays[i] -=", "arrays[k] -="),
    ),
    27: (("        self.optimizer.step(", "        self.optimizer = Adam(self.q_network.weights + self.q_network.biases, self.optimizer.learning_rate)\n        self.optimizer.step("),),
    28: (
        ("        loss, weight_gradients, bias_gradients = self.gradients(states, actions, rewards, next_states, dones)\n        self.optimizer.step(self.q_network.weights + self.q_network.biases, weight_gradients + bias_gradients)\n",
         "        for i in range(len(states)):\n            one = slice(i, i + 1)\n            loss, weight_gradients, bias_gradients = self.gradients(states[one], actions[one], rewards[one], next_states[one], dones[one])\n            self.optimizer.step(self.q_network.weights + self.q_network.biases, weight_gradients + bias_gradients)\n"),
    ),
    29: (("error[actions[i]] = huber_derivative", "error[:] = huber_derivative"),),
    30: (("error[actions[i]] = huber_derivative", "error[np.argmax(q)] = huber_derivative"),),
    31: (
        ("        for i in range(len(states)):\n            next_q", MEAN_TARGETS + "\n            next_q"),
        ("error[actions[i]] = huber_derivative(q[actions[i]] - target)", "error[actions[i]] = np.mean([huber_derivative(q[actions[i]] - t) for t in targets])"),
    ),
    32: (
        ("error = np.zeros(self.n_actions)\n            error[actions[i]] = huber_derivative(q[actions[i]] - target)", "wanted = np.zeros(self.n_actions)\n            wanted[actions[i]] = target\n            error = np.array([huber_derivative(q[k] - wanted[k]) for k in range(self.n_actions)])"),
    ),
    33: (("        return error\n    return np.sign(error)", "        return 0.5 * error\n    return np.sign(error)"),),
    34: (("weight_gradients[j] / len(states)", "weight_gradients[j]"), ("bias_gradients[j] / len(states)", "bias_gradients[j]")),
    35: (("            if not dones[i]:\n                target = target", "            if True:\n                target = target"),),
    36: (("if not dones[i]:", "if dones[i]:"),),
    37: (("            target = rewards[i]\n", "            target = 0.0 if dones[i] else rewards[i]\n"),),
    38: (("target = target + self.gamma * np.max(next_q)", "target = target + 0.9 * np.max(next_q)"),),
    39: (("np.max(next_q)", "np.mean(next_q)"),),
    40: (("next_q = self.target_network.forward(next_states[i])", "next_q = [self.target_network.forward(s) for s in next_states]"),),
    41: (("np.max(next_q)", "next_q[actions[i]]"),),
    42: (
        ("next_q = self.target_network.forward(next_states[i])", "next_q = self.q_network.forward(next_states[i])"),
        ("            weight_gradients, bias_gradients = self.q_network.backward(error)\n", "            weight_gradients, bias_gradients = self.q_network.backward(error)\n            if not dones[i]:\n                best = np.zeros(self.n_actions)\n                best[np.argmax(self.q_network.forward(next_states[i]))] = -self.gamma * error[actions[i]]\n                more, more_bias = self.q_network.backward(best)\n                weight_gradients = [a + b for a, b in zip(weight_gradients, more)]\n                bias_gradients = [a + b for a, b in zip(bias_gradients, more_bias)]\n"),
    ),
    43: (("np.max(next_q)", "self.q_network.forward(next_states[i])[np.argmax(next_q)]"),),
    44: (("[w.copy() for w in other.weights]", "other.weights"), ("[b.copy() for b in other.biases]", "other.biases")),
    45: (("    def update_target(self):\n        self.target_network.copy_from(self.q_network)", "    def update_target(self):\n        pass"),),
    46: (("weight_gradients + bias_gradients)\n        return loss", "weight_gradients + bias_gradients)\n        self.update_target()\n        return loss"),),
    47: (("    def update_target(self):\n        self.target_network.copy_from(self.q_network)", "    def update_target(self):\n        tau = 0.005\n        for t, o in zip(self.target_network.weights + self.target_network.biases, self.q_network.weights + self.q_network.biases):\n            t[...] = tau * t + (1 - tau) * o"),),
    48: (("self.replay.add(state, action, reward, next_state, terminated)", "self.replay.add(state, action, reward, state, terminated)"),),
    49: (("            self.replay.add(state", "            if not terminated:\n              self.replay.add(state"),),
    50: (("batch = random.sample(self.memory, n)", "batch = list(self.memory)[-n:]"),),
    51: (("        batch = random.sample(self.memory, n)\n", "        at = random.sample(range(len(self.memory)), n)\n        batch = [(*self.memory[i - 1][:3], *self.memory[i][3:]) for i in at]\n"),),
    52: (("np.argmax(self.q_network.forward(state))", "np.argmin(self.q_network.forward(state))"),),
    53: (("np.random.rand() < epsilon", "np.random.rand() > epsilon"),),
    54: (("np.random.randint(self.n_actions)", "np.random.randint(self.n_actions - 1)"),),
    55: (("            state = next_state\n", ""),),
    56: (("learning_rate=1e-3", "learning_rate=1e-1"),),
}
