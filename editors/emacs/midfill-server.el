;;; midfill-server.el --- The server that answers a buffer  -*- lexical-binding: t; -*-

;; SPDX-License-Identifier: Apache-2.0

;;; Commentary:

;; Finds the connection over which a buffer is served: eglot's, where eglot runs
;; midfill for it, or one that all other buffers share.  That one is started
;; when it is needed, started again when it has died, and kept up to date with
;; each buffer's edits.

;;; Code:

(require 'cl-lib)
(require 'jsonrpc)
(require 'subr-x)
(require 'url-util)

(defgroup midfill nil
  "Inline code completion from a model on your own machine."
  :group 'convenience
  :prefix "midfill-")

(require 'midfill-settings)

(defcustom midfill-command '("midfill" "serve")
  "The server and its arguments; those of user-only settings are added."
  :type '(repeat string))

(declare-function midfill--id "midfill")
(declare-function eglot-current-server "eglot")
(declare-function eglot-managed-p "eglot")
(declare-function eglot--signal-textDocument/didChange "eglot")
(defvar midfill-mode)

(defvar midfill--ready-hook nil
  "Hook for each buffer that waited, when the shared server is there.")

(defvar-local midfill--open nil "Non-nil when the server has this document.")
(defvar-local midfill--version 0)
(defvar-local midfill--changes nil "Edits not sent yet, newest first.")

(defvar midfill--connection nil "The connection that buffers share.")
(defvar midfill--ready nil "Non-nil when that one is initialized.")
(defvar midfill--starts nil "When it was started, in seconds.")
(defvar midfill--status nil "The last status that a server told.")

(defconst midfill--max-starts 5
  "How often a server may end within `midfill--starts-within'.")
(defconst midfill--starts-within 180)

(defun midfill--eglot-server ()
  "Return eglot's server for this buffer, if that is midfill."
  (when-let* (((featurep 'eglot))
              ((eglot-managed-p))
              (server (eglot-current-server))
              ((plist-member (with-no-warnings
                               (slot-value server 'capabilities))
                             :inlineCompletionProvider)))
    server))

(defun midfill--server ()
  "Return the connection that serves this buffer, nil while there is none."
  (or (midfill--eglot-server)
      (progn (midfill--connect)
             (and midfill--ready midfill--connection))))

(defun midfill--serve-command ()
  "Return the command line of the server."
  (append midfill-command
          (cl-loop for (user-only _name variable option) in midfill-settings--all
                   for value = (symbol-value variable)
                   when (and user-only value)
                   append (list option (format "%s" value)))))

(defun midfill--settings ()
  "Return what is sent over LSP; nothing stands for what is not set."
  (or (cl-loop for (user-only name variable) in midfill-settings--all
               for value = (symbol-value variable)
               when (and value (not user-only))
               append (list (intern (format ":%s" name))
                            (if (and (listp value) (consp value))
                                (vconcat value)
                              value)))
      (make-hash-table)))

(defun midfill--connect ()
  "Start the shared server if there is none."
  (unless (or midfill--connection (not (midfill--may-start-p)))
    (push (float-time) midfill--starts)
    (setq midfill--connection
          (apply
           #'make-instance 'jsonrpc-process-connection
           :name "midfill"
           :notification-dispatcher #'midfill--on-notification
           :request-dispatcher #'midfill--on-request
           :on-shutdown #'midfill--on-shutdown
           :process (lambda ()
                      (make-process :name "midfill"
                                    :command (midfill--serve-command)
                                    :connection-type 'pipe
                                    :coding 'utf-8-emacs-unix
                                    :stderr (get-buffer-create
                                             " *midfill stderr*")
                                    :noquery t))
           ;; A log of all messages would hold the user's code.
           (if (< emacs-major-version 30)
               '(:events-buffer-scrollback-size 0)
             '(:events-buffer-config (:size 0 :format full)))))
    (let ((connection midfill--connection))
      (jsonrpc-async-request
       connection :initialize
       (list :processId (emacs-pid)
             :clientInfo (list :name "Emacs midfill.el" :version "0.1.0")
             :rootUri nil
             :initializationOptions (midfill--settings)
             :capabilities
             '(:general (:positionEncodings ["utf-32"])
               :workspace (:configuration t)
               :textDocument
               (:inlineCompletion (:dynamicRegistration :json-false))))
       :success-fn (lambda (_)
                     (jsonrpc-notify connection :initialized
                                     (make-hash-table))
                     (setq midfill--ready t)
                     (midfill--open-all))
       :error-fn (lambda (problem) (message "midfill: %S" problem))
       :timeout 60))))

(defun midfill--may-start-p ()
  "Return non-nil if a server may be started."
  (setq midfill--starts
        (seq-filter (lambda (at) (< (- (float-time) at) midfill--starts-within))
                    midfill--starts))
  (and (executable-find (car midfill-command))
       (length< midfill--starts midfill--max-starts)))

(defun midfill--disconnect ()
  "End the shared server."
  (let ((connection midfill--connection))
    (setq midfill--connection nil
          midfill--ready nil)
    (when (and connection (jsonrpc-running-p connection))
      (ignore-errors
        (jsonrpc-request connection :shutdown nil :timeout 3)
        (jsonrpc-notify connection :exit nil))
      (jsonrpc-shutdown connection t))))

(defun midfill--on-shutdown (connection)
  "Note that CONNECTION has ended."
  (when (eq connection midfill--connection)
    (setq midfill--connection nil
          midfill--ready nil
          midfill--status nil)
    (dolist (buffer (buffer-list))
      (with-current-buffer buffer
        (setq midfill--open nil)))))

(defun midfill--on-request (_connection method params)
  "Answer a request of the server's, METHOD with PARAMS."
  (pcase method
    ('workspace/configuration
     (make-vector (length (plist-get params :items)) (midfill--settings)))
    (_ nil)))

(defun midfill--on-notification (_connection method params)
  "Take in a notification of the server's, METHOD with PARAMS."
  (pcase method
    ('midfill/didChangeStatus (midfill--take-status params))
    ('window/showMessage (message "%s" (plist-get params :message)))))

(defun midfill--take-status (status)
  "Show STATUS in the mode line, and ask where a model was waited for."
  (let ((waited (member (plist-get midfill--status :state)
                        '("loading" "warming"))))
    (setq midfill--status status)
    (when (and waited (equal (plist-get status :state) "ready"))
      (with-current-buffer (window-buffer)
        (when midfill-mode
          (run-hooks 'midfill--ready-hook)))))
  (force-mode-line-update t))

(defun midfill--request (method params success-fn)
  "Ask this buffer's server METHOD with PARAMS.
Call SUCCESS-FN with the result in this buffer, if it still exists."
  (when-let* ((server (midfill--server)))
    (let ((buffer (current-buffer)))
      (jsonrpc-async-request
       server method params
       :success-fn (lambda (result)
                     (when (buffer-live-p buffer)
                       (with-current-buffer buffer
                         (funcall success-fn result))))
       :error-fn #'ignore))))

(defun midfill--report (method item &rest more)
  "Tell the server METHOD about ITEM, with MORE."
  (when-let* ((id (midfill--id item))
              (server (midfill--server)))
    (jsonrpc-notify server method (append (list :id id) more))))

(defun midfill--run (command)
  "Have the server run COMMAND, which came with an item."
  (when command
    (midfill--send-changes)
    (midfill--request :workspace/executeCommand
                      (list :command (plist-get command :command)
                            :arguments (plist-get command :arguments))
                      #'ignore)))


;;;; Documents of the shared server

(defun midfill--uri ()
  "Return this buffer's URI."
  (if-let* ((file (or buffer-file-name
                      (buffer-file-name (buffer-base-buffer)))))
      (concat "file://" (url-hexify-string (file-truename file)
                                           url-path-allowed-chars))
    (concat "untitled:" (url-hexify-string (buffer-name)))))

(defun midfill--text (beg end)
  "Return the text from BEG to END as JSON can carry it."
  (replace-regexp-in-string
   "[^\0-\x10FFFF]" "\uFFFD" (buffer-substring-no-properties beg end)))

(defun midfill--position (pos)
  "Return POS as the shared server counts, in lines and characters."
  (save-excursion
    (save-restriction
      (widen)
      (goto-char pos)
      (list :line (1- (line-number-at-pos pos t))
            :character (- pos (line-beginning-position))))))

(defun midfill--point (position)
  "Return where POSITION of the shared server is in this buffer."
  (save-excursion
    (save-restriction
      (widen)
      (goto-char (point-min))
      (forward-line (plist-get position :line))
      (min (+ (point) (plist-get position :character)) (line-end-position)))))

(defun midfill--language ()
  "Return LSP's name of this buffer's language."
  (string-remove-suffix
   "-ts" (string-remove-suffix "-mode" (symbol-name major-mode))))

(defun midfill--before-change (beg end)
  "Note where the text from BEG to END is, which is about to go."
  (when midfill--open
    (push (list (midfill--position beg) (midfill--position end) beg end)
          midfill--changes)))

(defun midfill--after-change (beg end n-before)
  "Note the text from BEG to END that took the place of N-BEFORE characters."
  (when midfill--open
    (pcase (car midfill--changes)
      (`(,start ,stop ,(pred (eql beg)) ,(pred (eql (+ beg n-before))))
       (setcar midfill--changes
               (list :range (list :start start :end stop)
                     :text (midfill--text beg end))))
      ;; Emacs may announce more than it changes: then only all of it is true.
      (_ (setq midfill--changes (list 'all))))))

(defun midfill--send-changes ()
  "Bring the server's document up to date."
  (if (midfill--eglot-server)
      (eglot--signal-textDocument/didChange)
    (when-let* ((server (midfill--server)))
      (cond
       ((not midfill--open) (midfill--open-document server))
       (midfill--changes
        (let ((changes (if (cl-every #'keywordp
                                     (mapcar #'car-safe midfill--changes))
                           (vconcat (reverse midfill--changes))
                         (save-restriction
                           (widen)
                           (vector (list :text (midfill--text
                                                (point-min) (point-max))))))))
          (setq midfill--changes nil)
          (jsonrpc-notify server :textDocument/didChange
                          (list :textDocument
                                (list :uri (midfill--uri)
                                      :version (cl-incf midfill--version))
                                :contentChanges changes))))))))

(defun midfill--open-document (server)
  "Open this buffer in SERVER."
  (save-restriction
    (widen)
    (jsonrpc-notify server :textDocument/didOpen
                    (list :textDocument
                          (list :uri (midfill--uri)
                                :languageId (midfill--language)
                                :version (cl-incf midfill--version)
                                :text (midfill--text (point-min) (point-max))))))
  (setq midfill--changes nil
        midfill--open t))

(defun midfill--open-all ()
  "Open the buffers that wait for the shared server."
  (dolist (buffer (buffer-list))
    (with-current-buffer buffer
      (when (and midfill-mode (not (midfill--eglot-server)))
        (midfill--open-document midfill--connection)
        (run-hooks 'midfill--ready-hook)))))

(defun midfill--close ()
  "Close this buffer in the shared server."
  (when (and midfill--open midfill--ready)
    (jsonrpc-notify midfill--connection :textDocument/didClose
                    (list :textDocument (list :uri (midfill--uri)))))
  (setq midfill--open nil))

(provide 'midfill-server)
;;; midfill-server.el ends here
