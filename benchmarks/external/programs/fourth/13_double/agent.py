"""Double DQN, functional style."""
import random
from collections import deque

import numpy as np

STATE_DIM = 4
ACTION_DIM = 2
HIDDEN = [64, 64]
GAMMA = 0.99
LEARNING_RATE = 5e-4
BATCH_SIZE = 64
REPLACE_TARGET_ITER = 200
MEMORY_SIZE = 20000
EPS_DECAY_STEPS = 2500

eval_net, target_net, optimizer_state, memory = [], [], {}, deque(maxlen=MEMORY_SIZE)
learn_step_counter = 0


def build_net():
    net, fan_in = [], STATE_DIM
    for fan_out in HIDDEN + [ACTION_DIM]:
        net.append({"w": np.random.randn(fan_in, fan_out) * np.sqrt(2.0 / fan_in), "b": np.zeros(fan_out)})
        fan_in = fan_out
    return net


def initialize(seed):
    global eval_net, target_net, optimizer_state, memory, learn_step_counter
    np.random.seed(seed)
    random.seed(seed)
    eval_net = build_net()
    target_net = build_net()
    replace_target()
    optimizer_state = {(i, k): (np.zeros_like(layer[k]), np.zeros_like(layer[k]))
                       for i, layer in enumerate(eval_net) for k in layer}
    memory = deque(maxlen=MEMORY_SIZE)
    learn_step_counter = 0


def replace_target():
    for target_layer, eval_layer in zip(target_net, eval_net):
        for k in eval_layer:
            target_layer[k] = eval_layer[k].copy()


def run_net(net, x, keep=False):
    inputs = []
    for i, layer in enumerate(net):
        inputs.append(x)
        x = np.dot(x, layer["w"]) + layer["b"]
        if i < len(net) - 1:
            x = np.tanh(x)
    return (x, inputs) if keep else x


def choose_action(observation, epsilon):
    if np.random.uniform() < epsilon:
        return np.random.randint(0, ACTION_DIM)
    return int(np.argmax(run_net(eval_net, observation[np.newaxis, :])))


def store_transition(s, a, r, s_, done):
    memory.append((s, a, r, s_, float(done)))


def sample_memory(n):
    s, a, r, s_, done = map(np.array, zip(*random.sample(memory, n)))
    return s, a, r, s_, done


def learn(s, a, r, s_, done):
    global learn_step_counter
    batch_index = np.arange(len(s), dtype=np.int32)
    q_eval, inputs = run_net(eval_net, s, keep=True)
    q_next = run_net(target_net, s_)
    max_act4next = np.argmax(q_eval, axis=1)
    selected_q_next = q_next[batch_index, max_act4next]
    y = r + GAMMA * selected_q_next * (1.0 - done)

    error = np.zeros_like(q_eval)
    error[batch_index, a] = (q_eval[batch_index, a] - y) / len(s)
    learn_step_counter += 1
    grads = []
    for i in reversed(range(len(eval_net))):
        grads.append((i, np.dot(inputs[i].T, error), error.sum(axis=0)))
        if i > 0:
            error = np.dot(error, eval_net[i]["w"].T) * (1.0 - inputs[i] ** 2)
    for i, dw, db in grads:
        adam(i, "w", dw)
        adam(i, "b", db)
    if learn_step_counter % REPLACE_TARGET_ITER == 0:
        replace_target()


def adam(i, k, g):
    m, v = optimizer_state[i, k]
    m[...] = 0.9 * m + 0.1 * g
    v[...] = 0.999 * v + 0.001 * np.square(g)
    m_hat = m / (1 - 0.9 ** learn_step_counter)
    v_hat = v / (1 - 0.999 ** learn_step_counter)
    eval_net[i][k] = eval_net[i][k] - LEARNING_RATE * m_hat / (np.sqrt(v_hat) + 1e-8)


def main_loop(env, total_steps):
    observation, _ = env.reset()
    episode_rewards, running = [], 0.0
    for step in range(total_steps):
        epsilon = max(0.02, 1.0 - step / EPS_DECAY_STEPS)
        action = choose_action(observation, epsilon)
        observation_, reward, terminated, truncated, _ = env.step(action)
        store_transition(observation, action, reward, observation_, terminated)
        observation = observation_
        running += reward
        if terminated or truncated:
            episode_rewards.append(running)
            running = 0.0
            observation, _ = env.reset()
        if len(memory) > BATCH_SIZE:
            learn(*sample_memory(BATCH_SIZE))
    return episode_rewards


class Adapter:
    gamma = GAMMA
    observation_size = STATE_DIM

    def q_values(self, obs):
        return run_net(eval_net, obs)

    def target_q_values(self, obs):
        return run_net(target_net, obs)

    def sync_target(self):
        replace_target()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        learn(obs, action, reward, next_obs, np.asarray(terminated, dtype=float))

    def act(self, obs, epsilon):
        return choose_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        store_transition(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return sample_memory(n)

    def run(self, env, env_steps):
        return main_loop(env, env_steps)

    def parameters(self):
        return {f"{i}.{k}": layer[k] for i, layer in enumerate(eval_net) for k in layer}

    def target_parameters(self):
        return {f"{i}.{k}": layer[k] for i, layer in enumerate(target_net) for k in layer}


def make(seed=0):
    initialize(seed)
    return Adapter()
